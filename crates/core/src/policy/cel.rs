//! `when`: conditions in CEL, fenced so that none can exhaust stack, memory or time.
//!
//! The evaluator has no budget of its own, so everything is bounded before it is reached: the source is
//! short, its brackets, operators and member chains are counted before it is parsed (the parser recurses),
//! and the parsed expression may hold only known variables and functions. There are no loops: of CEL's
//! macros only `has` is known. What fails to compute is an error, and an error stops what a `block` or
//! `require_approval` policy would stop.

use super::{
    condition::Truth,
    matcher::nearest,
    matcher::shown,
    set::{Case, Facts},
};
use crate::action::Count;
use cel::{
    Context, Env, IdedExpr,
    common::{
        ast::{Expr, operators},
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt},
        value::{CowVal, Val},
    },
    context::VariableResolver,
    parser::Macro,
};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, OnceLock},
};

const SOURCE_BYTES: usize = 1_024;
const BRACKET_DEPTH: usize = 32;
/// Brackets, operators and members of one expression, each.
const CHAIN: usize = 64;
const NODES: usize = 256;
/// Additions can join long texts, and each use of the payload can copy it.
const ADDITIONS: usize = 8;
const PAYLOAD_USES: usize = 16;
/// Bytes of stack for parsing.
const COMPILE_STACK: usize = 16 << 20;
/// Bytes of stack that evaluating one part may take, several times what was seen (33 KiB unoptimised, 1 KiB
/// optimised).
const PART_STACK: usize = if cfg!(debug_assertions) { 64 << 10 } else { 8 << 10 };
/// A larger payload is not shown to `when`; reading it is then an error.
const PAYLOAD_BYTES: u64 = 256 * 1_024;

const VARIABLES: &[&str] = &[
    "action",
    "agent",
    "category",
    "domains",
    "drift",
    "environment",
    "payload",
    "payload_bytes",
    "recipients",
    "records",
    "resource",
    "session",
    "systems",
    "tool",
];

const FUNCTIONS: &[&str] = &["contains", "double", "endsWith", "has", "int", "size", "startsWith", "string"];

const OPERATORS: &[&str] = &[
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    let has =
        Macro::global(operators::HAS, 1, |helper, _, args| match args.pop() {
            Some(IdedExpr { expr: Expr::Select(mut select), .. }) => {
                select.test = true;
                Ok(Some(helper.next_expr(Expr::Select(select))))
            }
            other => Err(helper
                .new_error(other.map_or(0, |e| e.id), "has() asks for a member, like has(payload.amount)")),
        });
    // Without it `has` stays an unknown function, which is refused when it is used.
    let _only_fails_on_a_second_one = env.add_macro(has);
    Arc::new(env)
});

/// A compiled `when`.
#[derive(Clone, Debug)]
pub(super) struct When {
    source: Box<str>,
    /// Without the parser's notes, which are larger than it.
    expression: Arc<IdedExpr>,
    /// A bit for each of [`VARIABLES`].
    reads: u16,
    /// Bytes of stack that evaluating it may take; no part is deeper than there are parts.
    stack: usize,
}

impl PartialEq for When {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl When {
    /// Compiles `source` if it is within the fence; else says what is not.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let source = source.trim();
        fence(source)?;
        // The parser is foreign code fed with foreign text: if it has a panic left, that is a refusal.
        // It also recurses deeply, far more so unoptimised: it gets a stack of its own.
        let parsed = catch_unwind(AssertUnwindSafe(|| stacker::grow(COMPILE_STACK, || ENV.compile(source))))
            .map_err(|_| "this expression cannot be parsed".to_owned())?;
        let program = parsed.map_err(|e| {
            let first = e.errors.first().map_or_else(|| e.to_string(), |first| first.msg.clone());
            format!("this is no CEL expression: {}", shown(&first))
        })?;
        let (reads, parts) = inspect(program.expression())?;
        let expression = Arc::new(program.expression().clone());
        Ok(Self { source: source.into(), expression, reads, stack: parts * PART_STACK })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether it reads `variable`.
    pub(super) fn reads(&self, variable: &str) -> bool {
        VARIABLES.iter().zip(0..).any(|(v, bit)| *v == variable && self.reads & (1 << bit) != 0)
    }

    pub(super) fn truth(&self, case: &Case<'_>) -> Truth {
        self.run(case).map_or(Truth::Error, Truth::from)
    }

    /// The answer, or why there is none.
    pub(super) fn run(&self, case: &Case<'_>) -> Result<bool, String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.set_variable_resolver(&case.inputs);
            stacker::maybe_grow(self.stack, 2 * self.stack, || {
                cel::Value::resolve(&self.expression, &context)
            })
        }));
        match outcome {
            Ok(Ok(cel::Value::Bool(answer))) => Ok(answer),
            Ok(Ok(_)) => Err("it is neither true nor false".to_owned()),
            Ok(Err(cel::ExecutionError::UndeclaredReference(name))) => {
                Err(format!("`{}` is not known", shown(&name)))
            }
            Ok(Err(error)) => Err(shown(&error.to_string()).into_owned()),
            Err(_) => Err("the evaluator failed".to_owned()),
        }
    }
}

/// Refuses what could exhaust the parser, looking at characters only. Where it is unsure it refuses.
fn fence(source: &str) -> Result<(), String> {
    if source.is_empty() {
        return Err("the expression is empty".into());
    }
    if source.len() > SOURCE_BYTES {
        return Err(format!("an expression has at most {SOURCE_BYTES} bytes, this one has {}", source.len()));
    }
    let (mut depth, mut brackets, mut operators, mut members) = (0_usize, 0, 0, 0);
    let mut word = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        operators += usize::from(word == "in");
        match c {
            '"' | '\'' => {
                if !word.is_empty() {
                    return Err(
                        "texts with a prefix (r\"…\", b\"…\") are not supported; use a plain one".into()
                    );
                }
                let mut length = 0;
                loop {
                    match chars.next() {
                        Some('\\') => drop(chars.next()),
                        Some(end) if end == c => break,
                        Some(inside) if inside >= ' ' => {}
                        _ => return Err("a text in quotes does not end".into()),
                    }
                    length += 1;
                }
                if length == 0 && chars.peek() == Some(&c) {
                    return Err("texts in triple quotes are not supported; use a plain one".into());
                }
            }
            '/' if chars.peek() == Some(&'/') => return Err("comments are not supported".into()),
            '(' | '[' | '{' => {
                depth += 1;
                brackets += 1;
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '.' => members += 1,
            ' ' | ',' | '\n' | '\t' | '\r' => {}
            '+' | '-' | '*' | '/' | '%' | '!' | '<' | '>' | '=' | '&' | '|' | '?' | ':' => operators += 1,
            other => return Err(format!("unexpected character `{}`", shown(&other.to_string()))),
        }
        word.clear();
        if depth > BRACKET_DEPTH {
            return Err(format!("brackets nest at most {BRACKET_DEPTH} deep"));
        }
        for (count, what) in [(brackets, "brackets"), (operators, "operators"), (members, "members")] {
            if count > CHAIN {
                return Err(format!("too many {what} in one expression; split it with `all_of` or `any_of`"));
            }
        }
    }
    Ok(())
}

/// Refuses an expression that holds anything but known variables, functions and operators. Answers which
/// of [`VARIABLES`] it reads.
fn inspect(root: &IdedExpr) -> Result<(u16, usize), String> {
    let (mut nodes, mut additions, mut payload_uses, mut reads) = (0, 0, 0, 0);
    let mut open = vec![root];
    while let Some(IdedExpr { expr, .. }) = open.pop() {
        nodes += 1;
        match expr {
            Expr::Literal(_) => {}
            Expr::Ident(name) => {
                match VARIABLES.iter().position(|v| v == name) {
                    Some(bit) => reads |= 1 << bit,
                    None => return Err(unknown("variable", name, VARIABLES)),
                }
                payload_uses += usize::from(name == "payload");
            }
            Expr::Select(select) => open.push(&select.operand),
            Expr::List(list) => open.extend(&list.elements),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if !OPERATORS.contains(&name) && !FUNCTIONS.contains(&name) {
                    return Err(unknown("function", name, FUNCTIONS));
                }
                additions += usize::from(name == operators::ADD);
                open.extend(call.target.as_deref());
                open.extend(&call.args);
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => {
                return Err("maps, messages and loops are not supported here".into());
            }
        }
    }
    for (count, most, what) in [
        (nodes, NODES, "parts"),
        (additions, ADDITIONS, "additions"),
        (payload_uses, PAYLOAD_USES, "uses of `payload`"),
    ] {
        if count > most {
            return Err(format!(
                "at most {most} {what} in one expression; split it with `all_of` or `any_of`"
            ));
        }
    }
    Ok((reads, nodes))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let name = shown(name);
    match nearest(&name, known) {
        Some(meant) => format!("unknown {what} `{name}`; did you mean `{meant}`?"),
        None => format!("unknown {what} `{name}`; known are {}", known.join(", ")),
    }
}

/// The variables of one action. What is not known does not exist, so that reading it is an error.
pub(super) struct Inputs<'a> {
    facts: &'a Facts<'a>,
    payload: OnceLock<Option<Box<dyn Val>>>,
}

impl<'a> Inputs<'a> {
    pub(super) const fn new(facts: &'a Facts<'a>) -> Self {
        Self { facts, payload: OnceLock::new() }
    }

    fn payload(&self) -> Option<&dyn Val> {
        self.payload
            .get_or_init(|| {
                let small = self.facts.action.payload_bytes <= PAYLOAD_BYTES;
                small.then(|| self.facts.payload.map_or_else(|| Box::new(CelNull) as Box<dyn Val>, convert))
            })
            .as_deref()
    }
}

impl VariableResolver for Inputs<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let Facts { action, records, systems, recipients, drift, .. } = *self.facts;
        let text = |t: &'b str| CowVal::owned(CelString::from(t));
        Some(match variable {
            "action" => text(&action.action),
            "agent" => text(&action.agent),
            "category" => text(action.category.as_str()),
            "environment" => text(action.environment.as_str()),
            "resource" => text(&action.resource),
            "session" => action.session.as_deref().map_or_else(|| CowVal::owned(CelNull), text),
            "tool" => action.tool.as_deref().map_or_else(|| CowVal::owned(CelNull), text),
            "records" => number(records)?,
            "systems" => number(systems)?,
            "recipients" => number(recipients)?,
            "payload_bytes" => number(Count::Known(action.payload_bytes))?,
            "drift" => CowVal::owned(CelDouble::from(drift?)),
            "domains" if action.domains.unknown => return None,
            "domains" => {
                let list: Vec<Box<dyn Val>> = action
                    .domains
                    .known
                    .iter()
                    .map(|d| Box::new(CelString::from(d.as_str().to_owned())) as Box<dyn Val>)
                    .collect();
                CowVal::owned(CelList::from(list))
            }
            "payload" => CowVal::Borrowed(self.payload()?),
            _ => return None,
        })
    }
}

/// Counts are signed in CEL, so that they can be reckoned with; one beyond that range is held at its end.
fn number<'b>(count: Count) -> Option<CowVal<'b, 'b>> {
    count.known().map(|n| CowVal::owned(CelInt::from(i64::try_from(n).unwrap_or(i64::MAX))))
}

fn convert(value: &serde_json::Value) -> Box<dyn Val> {
    use serde_json::Value;
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(i), ..) => Box::new(CelInt::from(i)),
            (None, Some(u), _) => Box::new(CelUInt::from(u)),
            (None, None, f) => Box::new(CelDouble::from(f.unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(convert).collect::<Vec<_>>())),
        Value::Object(entries) => {
            let map: HashMap<CelMapKey, Box<dyn Val>> =
                entries.iter().map(|(k, v)| (CelMapKey::from(k.clone()), convert(v))).collect();
            Box::new(CelMap::from(map))
        }
    }
}
