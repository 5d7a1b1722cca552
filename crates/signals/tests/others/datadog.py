"""Reads what is sent to Datadog, one request a line, into the models of its own client: path and body."""

import json
import sys

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.v2.model.event_create_request_payload import EventCreateRequestPayload
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.metric_payload import MetricPayload

MODELS = {
    "/api/v2/events": EventCreateRequestPayload,
    "/api/v2/logs": HTTPLog,
    "/api/v2/series": MetricPayload,
}
client = ApiClient(Configuration())


def unknown(model: object, path: str = "") -> str | None:
    """The first part that the model does not know: it keeps what it cannot read, and marks it."""
    if isinstance(model, list):
        return next((found for n, item in enumerate(model) if (found := unknown(item, f"{path}[{n}]"))), None)
    if getattr(model, "_unparsed", False):
        return path or "all of it"
    stored = getattr(model, "_data_store", None)
    if not isinstance(stored, dict):
        return None
    return next((found for name, value in stored.items() if (found := unknown(value, f"{path}.{name}"))), None)


for line in sys.stdin:
    request = json.loads(line)
    try:
        body = json.dumps(request["body"])
        wrong = unknown(client.deserialize(body, (MODELS[request["path"]],), True))
        print(f"unknown: {wrong}" if wrong else "good")
    except Exception as error:  # what it says is what the test shows
        print(f"{type(error).__name__}: {str(error)[:300]}".replace("\n", " "))
