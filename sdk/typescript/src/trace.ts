/** The caller's place in its own trace, where it uses OpenTelemetry; this package does not depend on it. */

// Where `@opentelemetry/api` (all of version 1) keeps what is registered with it, and the current span in a context.
const API = Symbol.for("opentelemetry.js.api.1");
const SPAN = Symbol.for("OpenTelemetry Context Key SPAN");

interface Registered {
  context?: { active(): { getValue(key: symbol): Span | undefined } };
}
interface Span {
  spanContext(): { traceId: string; spanId: string; traceFlags: number };
}

/** The current span as W3C Trace Context, if there is one. */
export function traceparent(): string | undefined {
  try {
    const registered = (globalThis as Record<symbol, unknown>)[API] as Registered | undefined;
    const span = registered?.context?.active().getValue(SPAN)?.spanContext();
    if (span === undefined) return undefined;
    const flags = (span.traceFlags & 0xff).toString(16).padStart(2, "0");
    const text = `00-${span.traceId}-${span.spanId}-${flags}`;
    const good = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/.test(text);
    return good ? text : undefined;
  } catch {
    // A trace is no reason for a check to fail.
    return undefined;
  }
}
