//! The Jinja dialect of Hugging Face's chat templates, with limits on what a template may cost.
//!
//! A template comes from a checkpoint, so it is untrusted. Its size and the size of each of its
//! tags are limited before it is parsed, its work and memory by minijinja's fuel, its output by the
//! size of the conversation.

use std::borrow::Cow;

use bpo_pairs::Limits;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use super::python;

/// The name under which an environment holds its one template.
const NAME: &str = "chat_template";

/// Tokens of one tag (`{{ ... }}` or `{% ... %}`), and `elif` tags of a template. Each token may
/// add a level of nesting to the parser's recursion.
const MAX_TOKENS: usize = 2000;
/// Stack for the parser: 4 KB for each of [`MAX_TOKENS`] levels in an unoptimized build, and as
/// much again.
const PARSER_STACK: usize = 16 << 20;

/// Fuel of a template without a conversation. A template in use takes 100 to 2,000 for its own.
const BASE_FUEL: u64 = 50_000;
/// Fuel for each message. A template in use takes 30 to 200.
const MESSAGE_FUEL: u64 = 500;
/// Most fuel for a conversation of any length.
const MAX_FUEL: u64 = 1_000_000;
/// Bytes of text that one fuel pays for: minijinja's 64 allow for each byte to be copied 16 times.
const BYTES_PER_FUEL: u64 = 4;
/// Stack for each fuel. Fuel buys nested lists, which are dropped recursively: 420 bytes were
/// enough in an unoptimized build, 60 in an optimized one.
const STACK_PER_FUEL: u64 = 512;
/// Fuel that [`with_template_stack`] has a stack for: that of 10 turns with 16 KB of text.
const SHARED_FUEL: u64 = 64_000;
/// Stack beside the one for fuel, for the functions between [`with_template_stack`] and a template.
const CALLER_STACK: usize = 1 << 20;
/// Output beyond the conversation's own text: what a template adds by itself.
const MAX_ADDED_BYTES: usize = 1 << 20;
/// Number of times that a template may write the text of the conversation.
const MAX_REPEATS: usize = 4;

/// A compiled chat template.
#[derive(Clone, Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
}

impl Template {
    /// Compiles a chat template as transformers does: trimmed blocks, Python's string methods,
    /// `tojson` as `json.dumps` writes it, `raise_exception`, `strftime_now` and the `generation`
    /// tags.
    ///
    /// # Errors
    /// A syntax error, or a template above one of the limits.
    pub(super) fn compile(source: &str) -> Result<Self, Error> {
        check_size(source)?;
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.add_filter("tojson", python::tojson);
        for name in ["e", "escape"] {
            environment.add_filter(name, |value: &Value| python::escape(value));
        }
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        // Jinja reads every kind of line end as "\n"
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let source = without_generation_tags(&source).into_owned();
        on_stack(PARSER_STACK, || environment.add_template_owned(NAME, source))?;
        Ok(Self { environment })
    }

    /// Renders the template. `messages` and `bytes` are the size of the conversation, which the
    /// limits on work and output follow.
    ///
    /// # Errors
    /// An error of the template, or one of the limits.
    pub(super) fn render(&self, context: Value, messages: usize, bytes: usize) -> Result<String, Error> {
        let fuel = BASE_FUEL
            .saturating_add(MESSAGE_FUEL.saturating_mul(messages as u64))
            .saturating_add(bytes as u64 / BYTES_PER_FUEL)
            .min(MAX_FUEL);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let rendered = on_stack(stack_for(fuel), || {
            environment.get_template(NAME).and_then(|template| template.render(context))
        });
        let text = rendered.map_err(|error| {
            if error.kind() == ErrorKind::OutOfFuel {
                over(format!("it takes more than {fuel} steps for {messages} messages"))
            } else {
                error
            }
        })?;
        let limit = MAX_ADDED_BYTES.saturating_add(bytes.saturating_mul(MAX_REPEATS));
        if text.len() > limit {
            let written = text.len();
            return Err(over(format!("it writes {written} bytes for a conversation of {bytes}")));
        }
        Ok(text)
    }
}

/// Runs `work` on a stack that most templates can be rendered on, so that they need no stack of their
/// own. A render above [`SHARED_FUEL`] allocates one.
///
/// A stack takes system calls to allocate, and its pages are cleared at their first use. Work that
/// renders many templates therefore shares one. `work` must not wait for other work of rayon's pool,
/// which would run on this stack.
pub(crate) fn with_template_stack<T>(work: impl FnOnce() -> T) -> T {
    let needed = stack_for(SHARED_FUEL);
    stacker::maybe_grow(needed, needed + CALLER_STACK, work)
}

/// Returns the stack in bytes of a template with this fuel.
fn stack_for(fuel: u64) -> usize {
    (fuel * STACK_PER_FUEL) as usize
}

/// Runs `work` on a stack with this many free bytes: the parser and the values of a template recurse, and the
/// caller's stack may be as small as 2 MB.
fn on_stack<T>(bytes: usize, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    stacker::maybe_grow(bytes, bytes, || work().map_err(|error| without_values(&error)))
}

/// Copies an error without the values of the template that it holds, which have to be dropped on
/// the stack that they were made on.
fn without_values(error: &Error) -> Error {
    let place = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    let detail = error.detail().unwrap_or("no details");
    Error::new(error.kind(), format!("{detail}{place}"))
}

fn over(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("the template is above a limit: {problem}"))
}

/// Checks the size of a template and of its tags, before the parser recurses over them.
fn check_size(source: &str) -> Result<(), Error> {
    let limit = Limits::DEFAULT.template_bytes;
    if source.len() > limit {
        return Err(over(format!("it has {} bytes, the limit is {limit}", source.len())));
    }
    let mut branches = 0;
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix('#') {
            rest = comment.split_once("#}").map_or("", |(_, rest)| rest);
        } else if let Some(tag) = rest.strip_prefix(['{', '%']) {
            let body = tag.trim_start_matches(['-', '+']).trim_start();
            if first_word(body) == "raw" && rest.starts_with('%') {
                rest = after_raw(body);
                continue;
            }
            branches += usize::from(first_word(body) == "elif");
            let (tokens, end) = tokens(tag);
            if tokens > MAX_TOKENS {
                return Err(over(format!("a tag has more than {MAX_TOKENS} tokens")));
            }
            rest = end;
        }
    }
    if branches > MAX_TOKENS {
        return Err(over(format!("it has {branches} elif tags, the limit is {MAX_TOKENS}")));
    }
    Ok(())
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The text after the `endraw` tag of a `raw` block.
fn after_raw(body: &str) -> &str {
    let mut rest = body;
    while let Some((_, after)) = rest.split_once("{%") {
        rest = after;
        if first_word(after.trim_start_matches(['-', '+']).trim_start()) == "endraw" {
            return after.split_once("%}").map_or("", |(_, rest)| rest);
        }
    }
    ""
}

/// The number of tokens of a tag, at most one above the limit, and the text behind it. A string is
/// one token.
fn tokens(tag: &str) -> (usize, &str) {
    let mut count = 0;
    let mut chars = tag.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if count > MAX_TOKENS {
            break;
        }
        let rest = &tag[at..];
        if rest.starts_with("%}") || rest.starts_with("}}") {
            return (count, &rest[2..]);
        }
        if c.is_whitespace() {
            continue;
        }
        count += 1;
        if matches!(c, '\'' | '"') {
            let mut escaped = false;
            for (_, next) in chars.by_ref() {
                if next == c && !escaped {
                    break;
                }
                escaped = next == '\\' && !escaped;
            }
        } else if is_word(c) {
            while chars.next_if(|(_, next)| is_word(*next)).is_some() {}
        }
    }
    (count, "")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Formats the date 26 July 2024, which Llama 3's template falls back to. The date is fixed so that
/// a resumed run has the same prompts as the day before.
fn strftime_now(format: String) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(match chars.next() {
            Some('d') => "26",
            Some('m') => "07",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('y') => "24",
            Some('Y') => "2024",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('j') => "208",
            Some('F') => "2024-07-26",
            Some('H' | 'M' | 'S') => "00",
            Some('I') => "12",
            Some('p') => "AM",
            Some('%') => "%",
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: unknown %{shown}"),
                ));
            }
        });
    }
    Ok(out)
}

/// Replaces `{% generation %}` and `{% endgeneration %}`, which mark the assistant's text, by
/// blocks that change nothing. They stay tags, so the white space around them is trimmed as before.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        rest = tag;
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        let word = first_word(inner);
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        let after = &inner[word.len()..];
        // a generation tag holds nothing else
        if after.trim_start().trim_start_matches(['-', '+']).starts_with("%}") {
            out.push_str(&tag[..tag.len() - inner.len()]);
            out.push_str(replacement);
            rest = after;
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(source);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        Template::compile(source)?.render(context! { x => "A" }, 1, 1)
    }

    #[test]
    fn generation_tags_keep_their_white_space_control() {
        // Expected: Jinja2 3.1 with transformers' extension.
        for (source, expected) in [
            ("a {% generation %} {{ x }} {% endgeneration %} b", "a  A  b"),
            ("a {%- generation -%} {{ x }} {%- endgeneration -%} b", "aAb"),
            ("a\n  {% generation %}\n{{ x }}\n  {% endgeneration %}\nb", "a\nA\nb"),
            ("a\n  {%+ generation %}{{ x }}{%endgeneration%}\nb", "a\n  Ab"),
            ("{{ '%}{% x %}' }}{%generation%}{{ x }}{% endgeneration %}", "%}{% x %}A"),
        ] {
            assert_eq!(render(source).unwrap(), expected, "{source:?}");
        }
    }

    #[test]
    fn functions_and_methods_of_templates_exist() {
        assert_eq!(
            render("{{ x.lower().strip() }}{{ strftime_now('%d %b %Y, %A 100%%') }}").unwrap(),
            "a26 Jul 2024, Friday 100%"
        );
        assert_eq!(
            render("{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}").unwrap(),
            "1"
        );
        assert!(
            render("{{ raise_exception('roles must alternate') }}")
                .unwrap_err()
                .to_string()
                .contains("alternate")
        );
        assert!(render("{{ strftime_now('%Q') }}").is_err());
        assert!(render("{% if %}").is_err());
    }

    #[test]
    fn html_is_not_escaped() {
        assert_eq!(render("{{ '<image>' ~ '&' }}\n").unwrap(), "<image>&");
    }

    /// Each of these took all memory, all time or all of the stack.
    #[test]
    fn hostile_templates_are_errors() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(60), "]".repeat(60));
            format!(
                "{{% set ns = namespace(x=1) %}}{{% for i in range({depth}) %}}{{% set ns.x = {open}ns.x{close} %}}\
                 {{% endfor %}}{{{{ ns.x|tojson }}}}"
            )
        };
        let long = "{% set t = x * 100000 %}";
        for (name, source) in [
            ("range", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".to_owned()),
            (
                "~",
                "{% set ns = namespace(t='aaaa') %}{% for i in range(40) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}"
                    .to_owned(),
            ),
            ("not", format!("{{{{ {}x }}}}", "not ".repeat(60_000))),
            ("minus", format!("{{{{ {}x }}}}", "-".repeat(100_000))),
            ("plus", format!("{{{{ x{} }}}}", "+x".repeat(100_000))),
            ("else", format!("{{{{ {}x }}}}", "x if x else ".repeat(20_000))),
            ("postfix", format!("{{{{ x{} }}}}", ".x".repeat(100_000))),
            ("elif", format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(20_000))),
            ("brackets", format!("{{{{ {} }}}}", "[".repeat(200))),
            ("raw", format!("{{% raw %}}{{{{ ' {{% endraw %}}{{{{ {}x }}}}", "not ".repeat(60_000))),
            ("tags", format!("{}%}}", "{%x".repeat(80_000))),
            ("open tags", "{%x".repeat(80_000)),
            ("size", " ".repeat(Limits::DEFAULT.template_bytes + 1)),
            ("nested values", nested(90_000)),
            ("macro", "{% macro a(x) %}{{ a(x) }}{% endmacro %}{{ a(1) }}".to_owned()),
            ("output", "{{ x * 2000000 }}".to_owned()),
            ("replace", format!("{long}{{{{ t.replace('A', t)|length }}}}")),
            ("join", format!("{long}{{{{ t.join(t)|length }}}}")),
            ("format", "{{ '{:>10000000000}'.format(x) }}".to_owned()),
        ] {
            let error = render(&source).map(|text| text.len()).expect_err(name).to_string();
            assert!(error.len() < 2000, "{name}");
            let shared = with_template_stack(|| render(&source).map(|text| text.len()));
            assert_eq!(shared.expect_err(name).to_string(), error, "{name}");
        }
    }

    /// The limits follow the length of the conversation.
    #[test]
    fn long_conversations_render() {
        let template = Template::compile(
            "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content|trim + '<|im_end|>' }}{% endfor %}",
        )
        .unwrap();
        let messages = vec![context! { role => "user", content => "a".repeat(1000) }; 2000];
        let text = template.render(context! { messages }, 2000, 2_000_000).unwrap();
        assert_eq!(text.len(), 2000 * 1027);
    }

    /// Templates need no stack of their own on a shared one, up to its limit.
    #[test]
    fn shared_stack_is_used() {
        let here = || std::ptr::from_ref(&std::hint::black_box(0u8)).addr();
        let is_near = |one: usize, other: usize| one.abs_diff(other) < CALLER_STACK;
        let on_small_thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let (outside, fuel) = (here(), BASE_FUEL + 10 * MESSAGE_FUEL);
            let on_own = on_stack(stack_for(fuel), || Ok(here())).unwrap();
            assert!(!is_near(outside, on_own));
            with_template_stack(|| {
                let shared = here();
                assert!(!is_near(outside, shared));
                assert!(is_near(shared, on_stack(stack_for(fuel), || Ok(here())).unwrap()));
                assert!(is_near(shared, with_template_stack(here)));
                assert!(!is_near(shared, on_stack(stack_for(MAX_FUEL), || Ok(here())).unwrap()));
            });
        });
        on_small_thread.unwrap().join().unwrap();
    }
}
