import logfire
from exporting import processor
from measure import report

logfire.configure(
    send_to_logfire=False,
    console=False,
    additional_span_processors=[processor()],
)


@logfire.instrument(record_return=True)
def ask(question: str) -> str:
    return "mild"


report(ask, logfire.force_flush)
