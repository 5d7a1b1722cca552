//! The two texts in which Prometheus reads metrics.

/// What `/metrics` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Of OpenMetrics 1.0.0.
    OpenMetrics,
    /// Of Prometheus before it, 0.0.4, which every tool reads.
    Prometheus,
}

impl Format {
    /// By what the request's `Accept` says.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// As the answer says it.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What OpenMetrics says, as Prometheus said it before: there a counter is named as its samples are.
pub(super) fn classic(open: &str) -> String {
    let mut classic = String::with_capacity(open.len() + 1024);
    let mut help = None;
    for line in open.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take().filter(|(named, _)| *named == name) {
                classic.push_str(&format!("# HELP {name}{total} {text}\n"));
            }
            classic.push_str(&format!("# TYPE {name}{total} {kind}\n"));
        } else if !line.starts_with('#') {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}
