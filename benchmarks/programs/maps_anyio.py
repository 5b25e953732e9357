import anyio
import anyio.to_thread
from maps import AT_ONCE, CALLS, KIND, acall, best, call


async def main():
    limiter = anyio.CapacityLimiter(AT_ONCE)
    results = [None] * CALLS

    async def one(number):
        if KIND == "sync":
            results[number] = await anyio.to_thread.run_sync(call, number, limiter=limiter)
        else:
            async with limiter:
                results[number] = await acall(number)

    async with anyio.create_task_group() as group:
        for number in range(CALLS):
            group.start_soon(one, number)
    return results


best(lambda: anyio.run(main))
