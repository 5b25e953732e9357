import asyncio
from concurrent.futures import ThreadPoolExecutor

from maps import AT_ONCE, CALLS, KIND, acall, best, call


def threads():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(call, range(CALLS)))


async def tasks():
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with semaphore:
            return await acall(number)

    return await asyncio.gather(*(one(number) for number in range(CALLS)))


best(threads if KIND == "sync" else lambda: asyncio.run(tasks()))
