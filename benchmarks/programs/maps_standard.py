import asyncio
from concurrent.futures import ThreadPoolExecutor

from rounds import AT_ONCE, COUNT, KIND, atask, best, task


def threads():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(task, range(COUNT)))


async def tasks():
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with semaphore:
            return await atask(number)

    return await asyncio.gather(*(one(number) for number in range(COUNT)))


best(threads if KIND == "sync" else lambda: asyncio.run(tasks()), list(range(COUNT)))
