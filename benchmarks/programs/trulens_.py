import logging
import os
import tempfile

from measure import report

os.environ["TRULENS_OTEL_TRACING"] = "1"
from trulens.apps.app import TruApp
from trulens.core import TruSession
from trulens.core.otel.instrument import instrument

logging.disable(logging.WARNING)


class Rag:
    @instrument()
    def ask(self, question: str) -> str:
        return "mild"


session = TruSession(database_url=f"sqlite:///{tempfile.mkdtemp()}/bench.db")
rag = Rag()
recorder = TruApp(rag, app_name="bench", app_version="1", main_method=rag.ask)
with recorder:
    report(rag.ask, session.force_flush)
