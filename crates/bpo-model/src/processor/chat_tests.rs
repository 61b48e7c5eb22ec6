//! Tests of [`ChatTemplate`].

use super::super::special::SpecialToken;
use super::*;
use crate::json::JsonError;

/// The template of llava-hf/llava-1.5-7b-hf (chat_template.json).
const LLAVA_HF: &str = "{% for message in messages %}{% if message['role'] != 'system' %}\
{{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}\
{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}\
{# Render all text next #}{% if message['role'] != 'assistant' %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}\
{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";
const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
                      helpful, detailed, and polite answers to the user's questions. ";

fn special(eos: &str) -> SpecialTokens {
    let token = |text: &str, id| SpecialToken { text: text.to_owned(), id };
    SpecialTokens {
        bos: Some(token("<s>", 1)),
        eos: token(eos, 2),
        end: token(eos, 2),
        stop: vec![2],
        image: Some(token("<image>", 3)),
        named: [("bos_token", "<s>"), ("eos_token", eos)]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into(),
        added: vec![
            token("<s>", 1),
            token(eos, 2),
            token("<image>", 3),
            token("<|eot_id|>", 4),
            token("<|im_end|>", 5),
        ],
    }
}

fn chat(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "a test", &special("</s>")).unwrap()
}

fn rendered(prompt: &str, answer: &str) -> Rendered {
    Rendered { prompt: prompt.to_owned(), answer: answer.to_owned() }
}

#[test]
fn llava_hf_with_several_turns() {
    let chat = chat(LLAVA_HF);
    assert_eq!(chat.content, Content::Parts);
    let history = [Turn::new("What?\n<image>", "A cat.")];
    let with_answer = chat.render_with_answer(None, &history, "Is it black?", "It is.", 1).unwrap();
    assert_eq!(
        with_answer,
        rendered("USER: <image>\nWhat? ASSISTANT: A cat. USER: Is it black? ASSISTANT:", " It is.</s>")
    );
    assert_eq!(chat.render(None, &history, "Is it black?", 1).unwrap(), with_answer.prompt);
    assert_eq!(chat.render(None, &[], "Hi", 0).unwrap(), "USER: Hi ASSISTANT:");
}

#[test]
fn without_a_template_the_conversation_is_vicuna_v1() {
    let dir = tempfile::tempdir().unwrap();
    let chat = ChatTemplate::from_dir(dir.path(), &special("</s>")).unwrap();
    let one = chat.render_with_answer(None, &[], "<image>\nQ", "A", 1).unwrap();
    assert_eq!(one, rendered(&format!("{SYSTEM}USER: <image>\nQ ASSISTANT:"), " A</s>"));
    let history = [Turn::new("Q\n<image>", "A"), Turn::new("Q2", "A2</s>")];
    assert_eq!(
        chat.render(None, &history, "Q3", 1).unwrap(),
        format!("{SYSTEM}USER: <image>\nQ ASSISTANT: A</s>USER: Q2 ASSISTANT: A2</s>USER: Q3 ASSISTANT:")
    );
    assert_eq!(chat.render(None, &[], "", 1).unwrap(), format!("{SYSTEM}USER: <image> ASSISTANT:"));
    assert_eq!(chat.render(None, &[], "", 0).unwrap(), format!("{SYSTEM}USER:  ASSISTANT:"));
}

#[test]
fn templates_of_strings_are_recognized() {
    let chat = ChatTemplate::new(CHATML, "a test", &special("<|im_end|>")).unwrap();
    assert_eq!(chat.content, Content::Text);
    assert_eq!(
        chat.render_with_answer(None, &[], "What is it? <image>", "Émile's 猫 🐈", 1).unwrap(),
        rendered(
            "<|im_start|>user\n<image>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
            "Émile's 猫 🐈<|im_end|>"
        )
    );
    // Jinja prints a list without an error, but no template means to.
    let printing = self::chat("{% for m in messages %}{{ m.content }}|{% endfor %}");
    assert_eq!(printing.content, Content::Text);
}

/// The images stand where the prompts have them if each of several has an `<image>`.
#[test]
fn several_images_stand_in_their_places() {
    // a template that writes its parts in their order, as Qwen's does
    const IN_ORDER: &str = "{% for m in messages %}{{ m.role }}:{% if m.content is string %}{{ m.content }}{% else %}\
        {% for part in m.content %}{% if part.type == 'image' %}[I]{% else %}{{ part.text }}{% endif %}{% endfor %}\
        {% endif %}|{% endfor %}";
    let history = |prompt: &str| [Turn::new(prompt, "A.")];
    let parts = chat(IN_ORDER);
    assert_eq!(parts.content, Content::Parts);
    for (first, second, images, expected) in [
        ("<image>\n<image>\nWhat?", "Why?", 2, "user:[I][I]What?|assistant:A.|user:Why?|"),
        ("Is <image> or <image>?", "Why?", 2, "user:Is [I] or [I]?|assistant:A.|user:Why?|"),
        ("<image>What?", "And\n<image>", 2, "user:[I]What?|assistant:A.|user:And[I]|"),
        // otherwise all are in front
        ("What?", "Why?", 2, "user:[I][I]What?|assistant:A.|user:Why?|"),
        ("What? <image>", "Why?", 3, "user:[I][I][I]What?|assistant:A.|user:Why?|"),
        ("What? <image>", "Why?", 1, "user:[I]What?|assistant:A.|user:Why?|"),
    ] {
        assert_eq!(
            parts.render(None, &history(first), second, images).unwrap(),
            expected,
            "{first} {second}"
        );
    }
    let strings = ChatTemplate::new(CHATML, "a test", &special("<|im_end|>")).unwrap();
    assert_eq!(
        strings.render(None, &[], "Is <image> or <image>?", 2).unwrap(),
        "<|im_start|>user\nIs <image>\n or <image>\n?<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn the_image_token_goes_wherever_it_is() {
    let chat = chat(LLAVA_HF);
    for prompt in
        ["<image>\nWhat?", "What?\n<image>", "<image> What?", "What? <image>", "What?", "<image>What?"]
    {
        assert_eq!(
            chat.render(None, &[], prompt, 1).unwrap(),
            "USER: <image>\nWhat? ASSISTANT:",
            "{prompt:?}"
        );
    }
    assert_eq!(chat.render(None, &[], " spaces stay ", 0).unwrap(), "USER:  spaces stay  ASSISTANT:");
}

#[test]
fn eos_is_written_once_whoever_wrote_it() {
    let writes_eos = "{% for m in messages %}{{ m.role + ':' }}{% for c in m.content %}{{ ' ' + c.text }}{% endfor %}\
                      {{ eos_token + '\n' if m.role == 'assistant' else '\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
    for template in [LLAVA_HF, VICUNA_V1, writes_eos] {
        for answer in ["A.", "A.</s>", "A. </s>\n", "A.</s></s>"] {
            let rendered = chat(template).render_with_answer(None, &[], "Q", answer, 0).unwrap();
            assert_eq!(rendered.answer, " A.</s>", "{template:?}, {answer:?}");
        }
    }
}

#[test]
fn the_template_gets_bos_and_eos() {
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content[0].text }}{{ eos_token }}{% endfor %}";
    assert_eq!(chat(template).render(None, &[], "Q", 0).unwrap(), "<s>Q</s>");
}

#[test]
fn bad_templates_and_answers_are_errors() {
    let new = |source: &str| ChatTemplate::new(source, "a test", &special("</s>"));
    assert!(matches!(new("{% if"), Err(ProcessorError::Template { .. })));
    assert!(matches!(new("{{ raise_exception('no') }}"), Err(ProcessorError::Template { .. })));
    assert!(matches!(new("hello"), Err(ProcessorError::TemplateDropsText { .. })));

    let chat = chat(LLAVA_HF);
    for answer in ["", " \n", "</s>", " </s> </s>"] {
        let error = chat.render_with_answer(None, &[], "Q", answer, 1).unwrap_err();
        assert!(matches!(error, ProcessorError::EmptyAnswer), "{answer:?}: {error}");
    }
    let detached = "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}\n{% endfor %}\
                    {% if add_generation_prompt %}Your turn:{% endif %}";
    let error = self::chat(detached).render_with_answer(None, &[], "Q", "A", 0).unwrap_err();
    assert!(matches!(error, ProcessorError::AnswerNotAppended { .. }));
}

#[test]
fn the_template_is_found_in_every_place() {
    let plain = serde_json::json!({ "chat_template": LLAVA_HF });
    let list = serde_json::json!({ "chat_template": [
        { "name": "tool_use", "template": "{{ messages }}" }, { "name": "default", "template": LLAVA_HF },
    ] });
    let map = serde_json::json!({ "chat_template": { "default": LLAVA_HF, "rag": "{{ messages }}" } });
    for (file, text) in [
        ("chat_template.jinja", LLAVA_HF.to_owned()),
        ("chat_template.json", plain.to_string()),
        ("processor_config.json", list.to_string()),
        ("tokenizer_config.json", map.to_string()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        // a file with lower precedence must not hide the one under test
        std::fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
        std::fs::write(dir.path().join(file), text).unwrap();
        let chat = ChatTemplate::from_dir(dir.path(), &special("</s>")).unwrap();
        assert_eq!(chat.render(None, &[], "Q", 1).unwrap(), "USER: <image>\nQ ASSISTANT:", "{file}");
    }
    let dir = tempfile::tempdir().unwrap();
    let only = serde_json::json!({ "chat_template": [{ "name": "rag", "template": "x" }] });
    std::fs::write(dir.path().join("tokenizer_config.json"), only.to_string()).unwrap();
    let error = ChatTemplate::from_dir(dir.path(), &special("</s>")).unwrap_err();
    assert!(
        matches!(error, ProcessorError::Json(JsonError::Value { ref key, .. }) if key == "chat_template")
    );
}

#[test]
fn a_system_message_goes_where_the_template_puts_it() {
    let history = [Turn::new("<image>\nQ", "A")];
    for (template, expected) in [
        (LLAVA_HF, "Be brief. USER: <image>\nQ ASSISTANT: A USER: Q2 ASSISTANT:"),
        (VICUNA_V1, "Be brief. USER: <image>\nQ ASSISTANT: A</s>USER: Q2 ASSISTANT:"),
        (
            CHATML,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>\nQ<|im_end|>\n\
             <|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
        ),
    ] {
        let chat = chat(template);
        assert!(chat.takes_system(), "{template:?}");
        assert_eq!(chat.render(Some("Be brief."), &history, "Q2", 1).unwrap(), expected);
        let answered = chat.render_with_answer(Some("Be brief."), &history, "Q2", "A2", 1).unwrap();
        assert_eq!(answered.prompt, expected);
    }
}

#[test]
fn templates_without_a_place_for_a_system_message_say_so() {
    let refuses = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}\
                   {% endif %}{{ m.content }}{% endfor %}";
    let ignores = "{% for m in messages if m.role != 'system' %}{{ m.content[0].text }}{% endfor %}";
    for template in [refuses, ignores] {
        let chat = chat(template);
        assert!(!chat.takes_system(), "{template:?}");
        let error = chat.render(Some("Be brief."), &[], "Q", 0).unwrap_err();
        assert!(matches!(error, ProcessorError::NoSystem { .. }), "{error}");
        assert_eq!(chat.render(None, &[], "Q", 0).unwrap(), "Q");
    }
}

/// A turn in the template of Llama 3.
const LLAMA_3: &str = "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] \
                       + '<|eot_id|>' }}{% endfor %}\
                       {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
/// Llama 2's has a space between an answer and its end token.
const LLAMA_2: &str = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content.strip() }} [/INST]{% else %}\
                       {{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

#[test]
fn the_end_of_a_turn_is_what_the_template_writes() {
    for (template, end, answer) in [
        (LLAMA_3, Some("<|eot_id|>"), "A.<|eot_id|>"),
        (CHATML, Some("<|im_end|>"), "A.<|im_end|>"),
        (LLAMA_2, Some("</s>"), " A. </s>"),
        (VICUNA_V1, Some("</s>"), " A.</s>"),
        (LLAVA_HF, None, " A.</s>"),
    ] {
        let chat = chat(template);
        assert_eq!(chat.end().map(|token| token.text.as_str()), end, "{template}");
        for said in ["A.", "A.</s>", "A. <|eot_id|>", "A.<|im_end|>\n"] {
            // the end token of another template is text
            let is_own = said == "A." || said == "A.</s>" || end.is_some_and(|end| said.contains(end));
            if is_own {
                let rendered = chat.render_with_answer(None, &[], "Q", said, 0).unwrap();
                assert_eq!(rendered.answer, answer, "{template}: {said:?}");
            }
        }
        let conversation = chat.conversation(None, &[], "Q", 0).unwrap();
        let prefix = chat.answer_prefix(&conversation, "A.").unwrap();
        assert_eq!(prefix.trim_start(), "A.", "{template}");
    }
}

#[test]
fn an_end_that_no_single_token_stands_for_is_left_to_eos() {
    let template = "{% for m in messages %}{{ m.role + ': ' + m.content + '<turn-over>\n' }}{% endfor %}\
                    {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    let chat = chat(template);
    assert_eq!(chat.end(), None);
    let rendered = chat.render_with_answer(None, &[], "Q", "A", 0).unwrap();
    assert_eq!(rendered.answer, "A<turn-over></s>");
}
