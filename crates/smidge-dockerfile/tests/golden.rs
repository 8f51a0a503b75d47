//! Dockerfiles and what becomes of them: `cases/NAME/{Dockerfile,plan}`, `bad/NAME/{Dockerfile,error}`.
//!
//! Run with `UPDATE=1` to write the expected files anew. A case's first comment may hold options:
//! `# options: target=NAME build-arg:K=V platform=OS/ARCH base:NAME=K=V onbuild:NAME=TEXT context=NAME`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use smidge_dockerfile::plan::{
    Action, Base, BaseConfig, CommandLine, CopySource, From, MountKind, Plan, Platform, RunAction,
    Step,
};
use smidge_dockerfile::{Diagnostic, Location, PlanOptions, Span, parse, plan, source_line};

#[test]
fn good_dockerfiles_give_the_plan_beside_them() {
    check_all("cases", "plan", |text, options| {
        let parsed = parse(text);
        let mut output = String::new();
        let errors: Vec<_> = parsed
            .diagnostics
            .iter()
            .filter(|found| found.is_error())
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let plan = plan(&parsed.dockerfile, options).expect("no errors in a good case");
        let mut warnings = parsed.diagnostics;
        warnings.extend(plan.warnings.clone());
        describe_diagnostics(&mut output, text, &warnings);
        describe_plan(&mut output, text, &plan);
        output
    });
}

#[test]
fn bad_dockerfiles_give_the_errors_beside_them() {
    check_all("bad", "error", |text, options| {
        let parsed = parse(text);
        let mut found = parsed.diagnostics.clone();
        if !parsed.has_errors() {
            let planned = plan(&parsed.dockerfile, options);
            found.extend(planned.expect_err("a bad case has errors"));
        }
        let mut output = String::new();
        describe_diagnostics(&mut output, text, &found);
        output
    });
}

fn check_all(folder: &str, expectation: &str, describe: impl Fn(&str, &PlanOptions) -> String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let mut cases: Vec<_> = fs::read_dir(&root)
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 60, "only {} cases in {folder}", cases.len());
    let update = is_update();
    let mut wrong = Vec::new();
    for case in cases {
        let text = fs::read_to_string(case.join("Dockerfile")).expect("a Dockerfile");
        let found = describe(&text, &options(&text));
        let file = case.join(expectation);
        if update {
            fs::write(&file, &found).expect("a writable case");
        } else if fs::read_to_string(&file).ok().as_ref() != Some(&found) {
            wrong.push(format!("== {}\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the switch of a test, not of the program"
)]
fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

fn options(text: &str) -> PlanOptions {
    let mut options = PlanOptions::default();
    let mut bases: BTreeMap<String, BaseConfig> = BTreeMap::new();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("# options: "))
        .unwrap_or_default();
    for option in line.split_whitespace() {
        let (key, value) = option.split_once('=').expect("an option `key=value`");
        match key.split_once(':').unwrap_or((key, "")) {
            ("target", _) => options.target = Some(value.into()),
            ("build-arg", name) => drop(options.build_args.insert(name.into(), value.into())),
            ("platform", _) => {
                let platform = Platform::parse(value, &Platform::default());
                options.platform = platform.expect("a platform");
            }
            ("context", _) => drop(options.contexts.insert(value.into())),
            ("all", _) => options.all_stages = value == "true",
            ("base", name) => {
                let (name_of, value) = value.split_once('=').unwrap_or(("BASE", value));
                let base = bases.entry(name.replace('~', ":")).or_default();
                base.env.push((name_of.into(), value.into()));
            }
            ("onbuild", name) => {
                let base = bases.entry(name.replace('~', ":")).or_default();
                base.on_build.push(value.replace('_', " "));
            }
            (other, _) => panic!("unknown option {other}"),
        }
    }
    options.bases = bases;
    options
}

fn describe_diagnostics(output: &mut String, text: &str, found: &[Diagnostic]) {
    for Diagnostic {
        severity,
        rule,
        message,
        span,
        label,
        help,
    } in found
    {
        let Location { line, column } = Location::of(text, span.start);
        let severity = format!("{severity:?}").to_lowercase();
        let rule = rule.map(|rule| format!("[{rule}]")).unwrap_or_default();
        writeln!(output, "{severity}{rule}: {message}").expect("a string");
        writeln!(output, "  --> {line}:{column}").expect("a string");
        let source = source_line(text, span.start);
        let width = span
            .text(text)
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            .max(1);
        let caret = format!("{}{}", " ".repeat(column - 1), "^".repeat(width));
        let label = label
            .as_ref()
            .map(|label| format!(" {label}"))
            .unwrap_or_default();
        writeln!(output, "  | {}", source.replace('\t', " ")).expect("a string");
        writeln!(output, "  | {caret}{label}").expect("a string");
        if let Some(help) = help {
            writeln!(output, "  help: {help}").expect("a string");
        }
    }
}

fn describe_plan(output: &mut String, text: &str, plan: &Plan) {
    for (name, value) in &plan.proxy {
        writeln!(output, "proxy {name}={value}").expect("a string");
    }
    for (place, stage) in plan.stages.iter().enumerate() {
        let base = match &stage.base {
            Base::Scratch => "scratch".to_owned(),
            Base::Image(name) => format!("image {name}"),
            Base::Stage(place) => format!("stage {place}"),
            Base::Context(name) => format!("context {name}"),
        };
        let name = stage.name.as_deref().unwrap_or("-");
        let platform = stage
            .platform
            .as_ref()
            .map(|p| format!(" for {p}"))
            .unwrap_or_default();
        writeln!(
            output,
            "stage {place} (#{}) {name}: {base}{platform}",
            stage.index
        )
        .expect("a string");
        for step in &stage.steps {
            let at = Location::of(text, step.span.start).line;
            let trigger = if step.trigger { " (trigger)" } else { "" };
            writeln!(output, "  {at}: {}{trigger}", step.history.escape_debug()).expect("a string");
            describe_step(output, text, step);
            if matches!(step.action, Action::Run(_)) {
                let environment = stage.environment(step);
                let pairs: Vec<_> = environment
                    .iter()
                    .filter(|(name, _)| name != "PATH")
                    .collect();
                writeln!(
                    output,
                    "     in {} as {:?} with {pairs:?}",
                    step.workdir, step.user
                )
                .expect("a string");
            }
        }
        let environment = stage.image_environment();
        let pairs: Vec<_> = environment
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        writeln!(output, "  env {pairs:?}").expect("a string");
    }
}

fn describe_step(output: &mut String, text: &str, step: &Step) {
    let mut line = |what: String| writeln!(output, "     {what}").expect("a string");
    match &step.action {
        Action::Copy(copy) => {
            line(format!(
                "copy {} -> {:?} from {} chown {:?} chmod {:?} link {} parents {} exclude {:?}",
                sources(&copy.sources),
                copy.destination.value,
                origin(&copy.from),
                copy.chown.as_ref().map(|word| &word.value),
                copy.chmod.as_ref().map(|word| &word.value),
                copy.link,
                copy.parents,
                copy.excludes,
            ));
        }
        Action::Add(add) => {
            line(format!(
                "add {} -> {:?} chown {:?} chmod {:?} link {} exclude {:?} git {} checksum {:?} \
                 unpack {:?}",
                sources(&add.sources),
                add.destination.value,
                add.chown.as_ref().map(|word| &word.value),
                add.chmod.as_ref().map(|word| &word.value),
                add.link,
                add.excludes,
                add.keep_git_dir,
                add.checksum.as_ref().map(|word| &word.value),
                add.unpack,
            ));
        }
        Action::Run(run) => describe_run(&mut line, text, run),
        Action::Cmd(command) | Action::Entrypoint(command) => line(command_line(text, command)),
        Action::OnBuild(trigger) => line(format!("onbuild {trigger:?}")),
        Action::Healthcheck(health) => line(format!("{health:?}")),
        _ => {}
    }
}

fn describe_run(line: &mut impl FnMut(String), text: &str, run: &RunAction) {
    line(command_line(text, &run.command));
    if let Some(script) = &run.script {
        line(format!("script {} {:?}", script.name, script.content));
    }
    for mount in &run.mounts {
        let kind = match &mount.kind {
            MountKind::Bind { from, source } => format!("bind {} {source:?}", origin(from)),
            other => format!("{other:?}"),
        };
        line(format!(
            "mount {kind} at {:?} read-only {}",
            mount.target, mount.read_only
        ));
    }
    line(format!(
        "network {:?} security {:?} devices {:?}",
        run.network, run.security, run.devices
    ));
}

fn command_line(text: &str, command: &CommandLine) -> String {
    let form = if command.shell_form { "shell" } else { "exec" };
    let words: Vec<_> = command
        .arguments
        .iter()
        .map(|span: &Span| span.text(text))
        .collect();
    format!("{form} {:?} written {words:?}", command.argv)
}

fn sources(sources: &[CopySource]) -> String {
    let names: Vec<_> = sources
        .iter()
        .map(|source| match source {
            CopySource::Path(path) => format!("{:?}", path.value),
            CopySource::Inline(file) => format!("{}={:?}", file.name, file.content),
        })
        .collect();
    names.join(" ")
}

fn origin(from: &From) -> String {
    match from {
        From::Context => "context".to_owned(),
        From::Stage(place) => format!("stage {place}"),
        From::Image(name) => format!("image {name}"),
        From::Named(name) => format!("named {name}"),
    }
}
