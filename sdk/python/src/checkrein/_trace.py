"""The caller's place in its own trace, where it uses OpenTelemetry; this package does not depend on it."""

from __future__ import annotations

import sys


def traceparent() -> str | None:
    """The current span as W3C Trace Context; ``None`` without one."""
    # Nobody can be in a span who has not imported this.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0xFF:02x}"
    except Exception:
        # A trace is no reason for a check to fail.
        return None
