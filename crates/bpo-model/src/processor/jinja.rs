//! The Jinja dialect of Hugging Face's chat templates.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use super::python;

/// The name under which an environment holds its one template.
pub(super) const NAME: &str = "chat_template";

/// Compiles a chat template as transformers does: trimmed blocks, Python's string methods, `tojson` as `json.dumps` writes it, `raise_exception`, `strftime_now` and the `generation` tags.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(python::method);
    env.add_filter("tojson", python::tojson);
    for name in ["e", "escape"] {
        env.add_filter(name, |value: &Value| python::escape(value));
    }
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    // Jinja reads every end of a line as one
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    env.add_template_owned(NAME, without_generation_tags(&source).into_owned())?;
    Ok(env)
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The day is always 26 July 2024, which Llama 3's template falls back to: a run that goes on tomorrow must see the
/// prompts of today.
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

/// Turns `{% generation %}` and `{% endgeneration %}`, with which a template marks what the assistant says, into
/// blocks that change nothing. The tags stay tags, so that white space around them is treated as it was.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}") else { break };
        let inner = &rest[start + 2..start + end];
        let tag = inner.trim_matches(['-', '+']).trim();
        let replacement = match tag {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => tag,
        };
        out.push_str(&rest[..start + 2]);
        if replacement == tag {
            // A tag may hold "%}" within a string: go on right behind its opening.
            rest = &rest[start + 2..];
        } else {
            out.push_str(&inner.replacen(tag, replacement, 1));
            rest = &rest[start + end..];
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
        compile(source)?.get_template(NAME)?.render(context! { x => "A" })
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
    fn what_templates_call_is_there() {
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
}
