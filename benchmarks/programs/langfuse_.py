import os

from measure import report

os.environ.update(LANGFUSE_PUBLIC_KEY="pk-lf-bench", LANGFUSE_SECRET_KEY="sk-lf-bench")
os.environ.update(LANGFUSE_HOST=os.environ["SINK"], LANGFUSE_BASE_URL=os.environ["SINK"])
from langfuse import get_client, observe


@observe()
def ask(question: str) -> str:
    return "mild"


report(ask, get_client().flush)
