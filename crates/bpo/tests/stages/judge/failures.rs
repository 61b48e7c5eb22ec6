//! Files, settings and judges that give no judgments or no pairs.

use super::*;

#[test]
fn files_that_cannot_be_judged_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let at = |name: &str| dir.path().join(name);
    let run = |answers: &Path| judged(&judging(), &samples, answers, &mut Judge::new(true), &at("judged"));
    let text = fs::read_to_string(&answers).unwrap();
    let first = text.lines().next().unwrap();
    fs::write(at("twice"), format!("{text}{first}\n")).unwrap();
    assert!(run(&at("twice")).unwrap_err().to_string().contains("b"));
    fs::write(at("other"), first.replace("\"b\"", "\"x\"")).unwrap();
    assert!(matches!(run(&at("other")), Err(BpoError::UnknownId { id }) if id == "x"));
    fs::write(
        at("injected"),
        format!("{text}{}", first.replace("\"own\"", "\"llm-hal\"").replace(":1", ":3")),
    )
    .unwrap();
    assert!(run(&at("injected")).unwrap_err().to_string().contains("`bpo inject`"));
    let scored = first.replace("\"finish\"", "\"judgment\":{\"score\":1.0},\"finish\"");
    fs::write(at("scored"), scored).unwrap();
    assert!(run(&at("scored")).unwrap_err().to_string().contains("has a score"));
    // the number of a variant takes no memory
    fs::write(at("far"), first.replace(":1", &format!(":{}", usize::MAX))).unwrap();
    let (text, _) = run(&at("far")).unwrap();
    assert_eq!(found(&text, "b", usize::MAX).unwrap().score, 5.0);
    fs::remove_file(at("judged")).unwrap();
    // a judge that cannot be read at all
    fs::write(at("silent"), first.replace("All is right .", "silence")).unwrap();
    let error = run(&at("silent")).unwrap_err();
    assert!(matches!(error, BpoError::NothingAnswered { stage: Stage::Judge, .. }), "{error}");
    let error = error.to_string();
    for part in ["I will not judge.", "`judge.max_new_tokens`", "--out can stay"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(fs::read_to_string(at("judged")).unwrap(), "");
}

/// A judge whose replies cannot be read is not asked about all answers, even after an earlier process
/// has asked about some.
#[test]
fn a_judge_without_usable_replies_is_asked_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _) = answered(dir.path());
    let at = |name: &str| dir.path().join(name);
    let file = |name: &str, readable: Option<usize>| {
        let line = |variant: usize| {
            let text = if readable == Some(variant) { "This is right ." } else { "silence" };
            serde_json::json!({"id": "a", "variant": variant, "type": "own", "response": text}).to_string()
                + "\n"
        };
        fs::write(at(name), (0..400).map(line).collect::<String>()).unwrap();
        at(name)
    };
    for is_batch_invariant in [true, false] {
        let silent = file("silent", None);
        let out = at(&format!("silent-{is_batch_invariant}"));
        let mut judge = Judge { down_at: 20, ..Judge::new(is_batch_invariant) };
        let stopped = judged(&judging(), &samples, &silent, &mut judge, &out).unwrap_err();
        assert!(matches!(stopped, BpoError::StageStopped { .. }), "{stopped}");
        let mut judge = Judge::new(is_batch_invariant);
        let error = judged(&judging(), &samples, &silent, &mut judge, &out).unwrap_err();
        assert!(matches!(error, BpoError::NothingAnswered { .. }), "{error}");
        let asked = judge.asked.load(Ordering::SeqCst);
        assert!((30..=60).contains(&asked), "{asked}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "");
        // one score is enough to go on
        let (text, _) = judged(
            &judging(),
            &samples,
            &file("one", Some(10)),
            &mut Judge::new(is_batch_invariant),
            &at(&format!("one-{is_batch_invariant}")),
        )
        .unwrap();
        assert_eq!(text.lines().count(), 400);
    }
}

#[test]
fn settings_that_make_no_pairs_are_refused() {
    let refused = |change: &dyn Fn(&mut RunConfig), part: &str| {
        let mut config = judging();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(part), "{error}");
    };
    refused(&|config| config.weaken.samples = 0, "`weaken.samples`");
    refused(
        &|config| {
            (config.chosen, config.weaken.own_samples) = (ChosenAnswer::Own, 2);
            config.judge = Default::default();
        },
        "`weaken.own_samples`",
    );
    refused(
        &|config| (config.weaken.own_samples, config.weaken.temperature) = (2, 0.0),
        "`weaken.temperature`",
    );
    refused(&|config| config.judge.annotation = false, "`judge.annotation`");
    refused(&|config| config.judge.highest = 1.0, "`judge.highest`");
    refused(&|config| config.judge.highest = f64::NAN, "`judge.highest`");
    refused(&|config| config.judge.accept_from = Some(4.0), "`judge.accept_from`");
    refused(&|config| (config.chosen, config.judge.images) = (ChosenAnswer::Own, true), "`judge`");
    refused(
        &|config| (config.judge.method, config.judge.highest) = (JudgeMethod::Claims, 9.0),
        "`judge.highest`",
    );
    let revised = |score: f64, method: JudgeMethod| {
        move |config: &mut RunConfig| {
            config.chosen = ChosenAnswer::Revised;
            (config.judge.accept_from, config.judge.method) = (Some(score), method);
        }
    };
    refused(&revised(6.0, JudgeMethod::Score), "`judge.accept_from`");
    refused(&revised(1.0, JudgeMethod::Claims), "`judge.accept_from`");
    let mut config = judging();
    revised(-1.0, JudgeMethod::Claims)(&mut config);
    config.validate().unwrap();
    config.truth.path = Some("truth.jsonl".into());
    assert!(config.validate().unwrap_err().to_string().contains("`truth.path`"));
}

/// Pairs of scores need files with scores, by their manifests.
#[test]
fn answer_files_without_scores_are_found_by_their_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let data = Fingerprint::of("data");
    let write = |stage: Stage, name: &str, config: &RunConfig| {
        let path = dir.path().join(name);
        let inputs = Inputs::read(&[Stage::Pair], config, Some(&data)).unwrap();
        let (mut ledger, _file) = StageLedger::open_file(stage, config, &inputs, &path).unwrap();
        ledger.finish(stage, &StageSummary::default()).unwrap();
        path
    };
    let weakened = write(Stage::Weaken, "w", &judging());
    let judged = write(Stage::Judge, "j", &judging());
    let check = |path: &Path, config: &RunConfig| {
        check_answers(&[path], &data, (Stage::Pair, config)).map_err(|e| e.to_string())
    };
    check(&judged, &judging()).unwrap();
    assert!(check(&weakened, &judging()).unwrap_err().contains("bpo judge"));
    let mut own = judging();
    own.chosen = ChosenAnswer::Own;
    check(&judged, &own).unwrap();
    // a score is compared with scores of the same scale
    let mut revised = judging();
    (revised.chosen, revised.judge.accept_from) = (ChosenAnswer::Revised, Some(40.0));
    revised.judge.highest = 100.0;
    revised.validate().unwrap();
    assert!(check(&judged, &revised).unwrap_err().contains("`judge.highest`"));
    // the scores of answers about weakened images are no judgments of own answers
    let without_own = write(Stage::Weaken, "without", &RunConfig::default());
    let by_judge = check_answers(&[&without_own], &data, (Stage::Judge, &revised)).unwrap_err();
    assert!(by_judge.to_string().contains("no own answers"), "{by_judge}");
}
