use super::*;
use crate::format::fields::JsonRecord;
use crate::format::messages::read_conversation;
use crate::video::{NoVideos, VideoFrames};

fn read(json: &str) -> Result<Conversation, SkipCause> {
    let record: JsonRecord = serde_json::from_str(json).unwrap();
    read_conversation(&mut record.into_fields().unwrap(), &NoVideos, Answers::Required)
}

fn expected(system: Option<&str>) -> Conversation {
    let turns = vec![Turn { prompt: "<image>\nWhat?".into(), answer: "A cat.".into() }];
    Conversation { images: vec!["a.jpg".into()], system: system.map(Into::into), turns }
}

#[test]
fn messages_are_read_in_all_forms() {
    for (name, json) in [
        (
            "LLaVA",
            r#"{"image": "a.jpg", "conversations": [{"from": "human", "value": "What?\n"}, {"from": "gpt", "value": "A cat."}]}"#,
        ),
        (
            "ms-swift",
            r#"{"images": ["a.jpg"], "messages": [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "A cat."}]}"#,
        ),
        (
            "LLaMA-Factory",
            r#"{"images": ["a.jpg"], "system": "", "tools": null, "videos": [], "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]}"#,
        ),
        (
            "TRL",
            r#"{"images": [{"bytes": null, "path": "a.jpg"}], "messages": [
                {"role": "user", "content": [{"type": "image", "text": null}, {"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}]}]}"#,
        ),
        (
            "OpenAI",
            r#"{"messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.jpg"}}, {"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": "A cat."}]}"#,
        ),
        (
            "Qwen",
            r#"{"messages": [
                {"role": "user", "content": [{"type": "image", "image": "a.jpg"}, "What?"]},
                {"role": "assistant", "content": "A cat."}]}"#,
        ),
    ] {
        let mut read = read(json).unwrap_or_else(|cause| panic!("{name}: {}", cause.detail));
        read.turns.iter_mut().for_each(|turn| turn.prompt = turn.prompt.trim_end().into());
        assert_eq!(read, expected(None), "{name}");
    }
}

const TURNS_JSON: &str =
    r#"{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}"#;

fn with(fields: &str, before: &str) -> String {
    format!(r#"{{"image": "a.jpg", {fields} "conversations": [{before} {TURNS_JSON}]}}"#)
}

#[test]
fn system_text_is_read_from_a_turn_or_a_key() {
    let turn = r#"{"from": "system", "value": "Be short."},"#;
    for json in [
        with("", turn),
        with(r#""system": "Be short.","#, ""),
        with(r#""system_prompt": "Be short.","#, ""),
        with(r#""system": "Be short.", "system_prompt": null,"#, turn),
    ] {
        assert_eq!(read(&json), Ok(expected(Some("Be short."))), "{json}");
    }
    for json in [with(r#""system": " ","#, ""), with("", r#"{"from": "system", "value": ""},"#)] {
        assert_eq!(read(&json), Ok(expected(None)), "{json}");
    }
}

#[test]
fn unusable_values_are_named_with_their_key() {
    for (json, reason, named) in [
        (with(r#""video": "a.mp4","#, ""), SkipReason::OtherMedia, r#"found the video "a.mp4""#),
        (with(r#""audios": ["a.wav"],"#, ""), SkipReason::OtherMedia, "`audios`"),
        (with(r#""system": 3,"#, ""), SkipReason::Malformed, "`system`: expected text, found 3"),
        (with(r#""system": "a", "system_prompt": "b","#, ""), SkipReason::Malformed, r#"`system_prompt`: expected no second system text beside "a", found "b""#),
        (with(r#""system": "<video> a","#, ""), SkipReason::OtherPlaceholder, r#"`system`: expected <image> or no placeholder, found "<video>""#),
        (with("", r#"{"from": "tool", "value": "x"},"#), SkipReason::UnknownRole, r#"`conversations[0].from`: expected human, user, gpt, assistant or system, found "tool""#),
        (with("", r#"{"from": null, "value": "x"},"#), SkipReason::Malformed, "`conversations[0].from`: expected text, found null"),
        (with("", r#"{"from": "human", "value": null},"#), SkipReason::Malformed, "`conversations[0].value`: expected text, found null"),
        (with("", r#"{"from": "human"},"#), SkipReason::Malformed, "`conversations[0].value`: expected text, found no such key"),
        (with("", "7,"), SkipReason::Malformed, "`conversations[0]`: expected an object, found 7"),
        (with("", r#"{"from": "gpt", "value": "x"},"#), SkipReason::TurnOrder, "`conversations[0].value`: expected a question of the user, found a turn of the assistant"),
        (with("", r#"{"from": "human", "value": "x"},"#), SkipReason::TurnOrder, "`conversations[1].value`: expected an answer of the assistant, found a turn of the user"),
        (with(r#""messages": [1],"#, ""), SkipReason::Malformed, "`messages`: expected no second conversation"),
        (r#"{"image": "a.jpg", "conversations": "x"}"#.into(), SkipReason::Malformed, r#"`conversations`: expected a list of turns, found "x""#),
        (r#"{"text": "A cat."}"#.into(), SkipReason::NoTurns, "`conversations` or `messages`"),
        (r#"{"image": "a.jpg", "messages": []}"#.into(), SkipReason::NoTurns, "`messages`"),
        (r#"{"image": "a.jpg", "text": "A cat."}"#.into(), SkipReason::NoTurns, "`conversations` or `messages`"),
        (r#"{"image": "a.jpg", "messages": [{"role": "system", "content": "x"}]}"#.into(), SkipReason::NoTurns, "system"),
        (r#"{"image": "a.jpg", "messages": [{"role": "user", "content": "x"}]}"#.into(), SkipReason::TurnOrder, "`messages[0].content`: expected an answer after it"),
        (
            r#"{"image": "a.jpg", "messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]}"#.into(),
            SkipReason::OtherMedia,
            r#"found the video "a.mp4""#,
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.org/a.jpg"}}]}]}"#.into(),
            SkipReason::ImageNotAPath,
            "`messages[0].content[0].image_url.url`",
        ),
        (
            r#"{"image": "a.jpg", "messages": [{"role": "user", "content": [{"type": "tool"}]}]}"#.into(),
            SkipReason::Malformed,
            r#"`messages[0].content[0].type`: expected text, image or video, found "tool""#,
        ),
        (
            r#"{"image": "a.jpg", "messages": [{"role": "user", "content": "<ImageHere>\nWhat?"}, {"role": "assistant", "content": "A cat."}]}"#.into(),
            SkipReason::OtherPlaceholder,
            r#"`messages[0].content`: expected <image> or no placeholder, found "<ImageHere>""#,
        ),
        (
            r#"{"images": ["a.jpg", "b.jpg"], "messages": [{"role": "user", "content": "<image>Which?"}, {"role": "assistant", "content": "A cat."}]}"#.into(),
            SkipReason::ImageToken,
            "expected <image> 2 times in the questions, once for each image, found it 1 times",
        ),
    ] {
        let cause = read(&json).unwrap_err();
        assert_eq!(cause.reason, reason, "{json}");
        assert!(cause.detail.contains(named), "{json}: {}", cause.detail);
    }
}

#[test]
fn several_images_and_none_are_read() {
    let read = |json: &str| read(json).unwrap_or_else(|cause| panic!("{json}: {}", cause.detail));
    for json in [
        r#"{"images": ["a.jpg", "b.jpg"], "messages": [{"role": "user", "content": "<image>\n<image>\nWhich?"}, {"role": "assistant", "content": "A."}]}"#,
        r#"{"images": ["a.jpg", "b.jpg"], "messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "A."}]}"#,
        r#"{"messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.jpg"}, {"type": "image", "image": "b.jpg"}, "Which?"]},
            {"role": "assistant", "content": "A."}]}"#,
    ] {
        let read = read(json);
        assert_eq!((read.images.len(), read.turns[0].prompt.as_str()), (2, "<image>\n<image>\nWhich?"));
    }
    let later = read(
        r#"{"messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.jpg"}, "What?"]}, {"role": "assistant", "content": "A."},
            {"role": "user", "content": ["And", {"type": "image", "image": "b.jpg"}]}, {"role": "assistant", "content": "B."}]}"#,
    );
    assert_eq!(later.images, ["a.jpg", "b.jpg"]);
    let prompts: Vec<&str> = later.turns.iter().map(|turn| turn.prompt.as_str()).collect();
    assert_eq!(prompts, ["<image>\nWhat?", "And\n<image>"]);
    let text =
        read(r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}"#);
    assert_eq!((text.images.len(), text.turns[0].prompt.as_str()), (0, "Hi"));
}

/// A video has a frame for each letter of its name.
struct Letters;

impl VideoFrames for Letters {
    fn frames(&self, video: &str) -> Result<Vec<String>, SkipCause> {
        Ok(video.chars().map(|letter| format!("{video}/{letter}")).collect())
    }
}

#[test]
fn videos_become_their_frames() {
    let answer = r#"{"role": "assistant", "content": "A."}"#;
    for (json, images, prompt) in [
        (
            r#"{"video": "ab", "messages": [{"role": "user", "content": "<video>\nWhat?"}, ANSWER]}"#,
            "ab/a ab/b",
            "<image>\n<image>\nWhat?",
        ),
        (
            r#"{"videos": ["a"], "messages": [{"role": "user", "content": "What?"}, ANSWER]}"#,
            "a/a",
            "<image>\nWhat?",
        ),
        (
            r#"{"image": "x.png", "messages": [
                {"role": "user", "content": ["Is", {"type": "image"}, {"type": "video", "video": "ab"}, "it?"]}, ANSWER]}"#,
            "x.png ab/a ab/b",
            "Is\n<image>\n<image>\n<image>\nit?",
        ),
    ] {
        let record: JsonRecord = serde_json::from_str(&json.replace("ANSWER", answer)).unwrap();
        let read = read_conversation(&mut record.into_fields().unwrap(), &Letters, Answers::Required)
            .unwrap_or_else(|cause| panic!("{json}: {}", cause.detail));
        assert_eq!(
            (read.images.join(" ").as_str(), read.turns[0].prompt.as_str()),
            (images, prompt),
            "{json}"
        );
    }
}

#[test]
fn a_question_and_its_answer_are_a_conversation() {
    let turns = |json: &str| {
        let Conversation { images, system, turns } = read(json).unwrap();
        assert_eq!((images, system), (vec!["a.jpg".to_owned()], None), "{json}");
        turns
    };
    let expected = [Turn::new("<image>\nWhat?", "A cat.")];
    for json in [
        r#"{"image": "a.jpg", "question": "What?", "answer": "A cat."}"#,
        r#"{"image": "a.jpg", "question": "What?", "answer": "A cat.", "conversations": null}"#,
        r#"{"images": ["a.jpg"], "query": "<image>What?", "response": "A cat."}"#,
        r#"{"image": "a.jpg", "instruction": "What?", "input": "", "output": "A cat."}"#,
        r#"{"image": "a.jpg", "instruction": "", "input": "What?", "output": "A cat."}"#,
        r#"{"image": "a.jpg", "conversation": [{"human": "What?", "assistant": "A cat."}]}"#,
    ] {
        let found = turns(json);
        let prompt = found[0].prompt.replace("<image>What", "<image>\nWhat");
        assert_eq!([Turn { prompt, ..found[0].clone() }], expected, "{json}");
    }
    let two =
        turns(r#"{"image": "a.jpg", "query": "Why?", "response": "So.", "history": [["What?", "A cat."]]}"#);
    assert_eq!(two, [expected[0].clone(), Turn::new("Why?", "So.")]);
    // `conversations` and `messages` come first
    let json = with(r#""question": "Which?", "answer": "That.","#, "");
    assert_eq!(read(&json).unwrap(), read(&with("", "")).unwrap());
    for other in
        [r#""conversation": "c-17","#, r#""conversation": [{"human": "Which?", "assistant": "That."}],"#]
    {
        assert_eq!(read(&with(other, "")).unwrap(), read(&with("", "")).unwrap(), "{other}");
    }
    let named = r#"{"image": "a.jpg", "conversation": "c", "instruction": "Be brief.", "question": "What?", "answer": "A cat."}"#;
    assert_eq!(turns(named), expected);
    let three = r#"{"image": "a.jpg", "query": "Why?", "response": "So.", "history": [["a", "b", "c"]]}"#;
    let cause = read(three).unwrap_err();
    assert!(cause.detail.contains("`history[0]`: expected a question and its answer"), "{}", cause.detail);
    assert_eq!(read(r#"{"image": "a.jpg", "conversation": []}"#).unwrap_err().reason, SkipReason::NoTurns);
    let several = r#"{"image": "a.jpg", "question": "What?", "answer": ["a cat", "cat"]}"#;
    let cause = read(several).unwrap_err();
    assert!(cause.detail.ends_with("`answer`: expected text, found a list of 2"), "{}", cause.detail);
}
