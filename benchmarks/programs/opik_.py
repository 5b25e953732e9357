import os

from measure import report

os.environ.update(OPIK_URL_OVERRIDE=os.environ["SINK"], OPIK_TRACK_DISABLE="false", OPIK_SENTRY_ENABLE="false")
os.environ.update(OPIK_ANALYTICS_ENABLED="false")
import opik


@opik.track
def ask(question: str) -> str:
    return "mild"


report(ask, lambda: opik.flush_tracker(timeout=30))
