//! Prompts as parsed Jinja templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};

use super::PromptTexts;
use crate::InjectError;

/// The variables of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct PromptVariables {
    /// The variables that the prompt may use.
    pub known: &'static [&'static str],
    /// The variables that it must use.
    pub required: &'static [&'static str],
}

/// Parsed prompts by name. Values are inserted as they are, without escaping.
#[derive(Debug)]
pub struct PromptSet(Environment<'static>);

impl PromptSet {
    /// Parses the prompts. `variables` returns those of the prompt with a name.
    ///
    /// # Errors
    /// Returns an error if a text does not parse, uses an unknown variable or does not use a
    /// required one.
    pub fn new(
        texts: &PromptTexts,
        variables: impl Fn(&str) -> PromptVariables,
    ) -> Result<Self, InjectError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment
            .set_syntax(syntax.map_err(|source| InjectError::TemplateSyntax { name: "first", source })?);
        for (name, text) in texts.iter() {
            environment
                .add_template_owned(name, text.to_owned())
                .map_err(|source| InjectError::TemplateSyntax { name, source })?;
            check_variables(&environment, name, variables(name))?;
        }
        Ok(Self(environment))
    }

    /// Renders a prompt, without white space at its end.
    ///
    /// # Errors
    /// Returns [`InjectError::TemplateRender`] if the prompt fails for these values, or there is none
    /// with this name.
    pub fn render(&self, name: &'static str, values: Value) -> Result<String, InjectError> {
        Ok(self.render_whole(name, values)?.trim_end().to_owned())
    }

    /// Renders a prompt with the white space at its end.
    ///
    /// # Errors
    /// Returns the error of [`render`](Self::render).
    pub fn render_whole(&self, name: &'static str, values: Value) -> Result<String, InjectError> {
        let prompt = self.0.get_template(name).and_then(|template| template.render(values));
        prompt.map_err(|source| InjectError::TemplateRender { name, source })
    }
}

fn check_variables(
    environment: &Environment<'static>,
    name: &'static str,
    variables: PromptVariables,
) -> Result<(), InjectError> {
    let used = environment
        .get_template(name)
        .map_err(|source| InjectError::TemplateSyntax { name, source })?
        .undeclared_variables(false);
    let PromptVariables { known, required } = variables;
    let is_known = |found: &&String| {
        known.contains(&found.as_str()) || environment.globals().any(|(global, _)| global == *found)
    };
    // The order of a set is not defined. The alphabetically first name is reported, so that the
    // message is always the same.
    if let Some(found) = used.iter().filter(|found| !is_known(found)).min() {
        let known = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
        return Err(InjectError::TemplateVariable { name, found: found.clone(), known });
    }
    match required.iter().find(|required| !used.contains(**required)) {
        Some(required) => Err(InjectError::TemplateWithout { name, required }),
        None => Ok(()),
    }
}
