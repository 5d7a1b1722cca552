"""Requests carry the current span, with the real package of OpenTelemetry."""

from __future__ import annotations

import sys

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from checkrein._exchange import Request, Send
from checkrein._transport import Address


def sent() -> dict[str, str]:
    request = Send(Request("POST", "/v1/checks", {"action": "read"}), 1.0)
    headers: dict[str, str] = Address("http://127.0.0.1:7070", "ck_1", 1.0).request(request)["headers"]
    return headers


def test_the_current_span_is_forwarded() -> None:
    assert "traceparent" not in sent()
    context = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        assert sent()["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert "traceparent" not in sent()


def test_whatever_is_wrong_with_it_the_check_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())
    assert "traceparent" not in sent()
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert "traceparent" not in sent()
