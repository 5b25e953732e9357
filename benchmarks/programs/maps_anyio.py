import anyio
import anyio.to_thread
from rounds import AT_ONCE, COUNT, KIND, atask, best, task


async def main():
    limiter = anyio.CapacityLimiter(AT_ONCE)
    results = [None] * COUNT

    async def one(number):
        if KIND == "sync":
            results[number] = await anyio.to_thread.run_sync(task, number, limiter=limiter)
        else:
            async with limiter:
                results[number] = await atask(number)

    async with anyio.create_task_group() as group:
        for number in range(COUNT):
            group.start_soon(one, number)
    return results


best(lambda: anyio.run(main), list(range(COUNT)))
