import os

from measure import report

os.environ.update(LANGSMITH_TRACING="true", LANGSMITH_API_KEY="bench", LANGSMITH_ENDPOINT=os.environ["SINK"])
from langsmith import Client, traceable

client = Client(api_url=os.environ["SINK"], api_key="bench")


@traceable(client=client)
def ask(question: str) -> str:
    return "mild"


report(ask, client.flush)
