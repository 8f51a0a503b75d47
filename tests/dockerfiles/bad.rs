//! Dockerfiles that are broken. Each must fail with the line and the words that matter, and leave no name.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::builder::Smidge;
use crate::context::{Context, Ran};
use crate::{Outcome, Report, base, tree};

/// A Dockerfile that must not build.
struct Bad {
    name: &'static str,
    text: &'static str,
    args: &'static str,
    /// Where the error is; 0 for none.
    line: usize,
    /// What the message must name.
    words: &'static [&'static str],
}

const fn bad(
    name: &'static str,
    text: &'static str,
    line: usize,
    words: &'static [&'static str],
) -> Bad {
    Bad {
        name,
        text,
        args: "",
        line,
        words,
    }
}

impl Bad {
    const fn with(self, args: &'static str) -> Self {
        Self { args, ..self }
    }
}

/// What they find in their context, beside their own Dockerfile.
const CONTEXT: &str = r#"
file 0644 a a
file 0644 b b
file 0644 dir/x x
link out -> /etc/hostname
link up -> ../../../../etc
link loop -> loop
file 0644 short.tar.gz "no archive"
tar plain good.tar
+ file 0644 0:0 inside x
"#;

/// All of them. `@` stands for a first line `FROM localhost/base`.
const BAD: &[Bad] = &[
    // The whole file.
    bad("empty", "", 0, &["no instructions"]),
    bad("only comments", "# nothing\n\n# here\n", 0, &["no"]),
    bad("no from", "RUN true\n", 1, &["FROM"]),
    bad("only arg", "ARG A=b\n", 0, &["FROM"]),
    bad(
        "label before from",
        "LABEL a=b\nFROM scratch\n",
        1,
        &["FROM"],
    ),
    bad("unknown instruction", "@\nRUNN true\n", 2, &["RUNN", "RUN"]),
    bad("misspelt copy", "@\n\n\nCOYP a /a\n", 4, &["COYP", "COPY"]),
    bad("not a dockerfile", "#!/bin/sh\necho hello\n", 2, &["echo"]),
    bad("binary", "\u{1}\u{2}\u{3} x\n", 1, &["unknown"]),
    bad("zero bytes", "@\nRUN echo \0 x\n", 2, &[]),
    bad(
        "unfinished heredoc",
        "@\nRUN <<EOF\necho never\n",
        2,
        &["EOF"],
    ),
    bad(
        "unfinished second heredoc",
        "@\nCOPY <<A <<B /x/\n1\nA\n2\n",
        2,
        &["B"],
    ),
    bad(
        "escape directive",
        "# escape=x\nFROM scratch\n",
        1,
        &["escape"],
    ),
    bad(
        "after a continuation",
        "@\nRUN true && \\\n  true\nBOGUS\n",
        4,
        &["BOGUS"],
    ),
    bad("in a continuation", "@\nENV a=b \\\n  c\n", 3, &["c"]),
    // FROM.
    bad("from without image", "FROM\n", 1, &["FROM"]),
    bad("from words", "FROM a b\n", 1, &["FROM"]),
    bad("from as nothing", "FROM localhost/base AS\n", 1, &["FROM"]),
    bad("from bad name", "FROM UPPER/Case:::x\n", 1, &["UPPER"]),
    bad(
        "from bad stage name",
        "FROM localhost/base AS 1st\n",
        1,
        &["1st"],
    ),
    bad(
        "from bad platform",
        "FROM --platform=linux/none/x/y localhost/base\n",
        1,
        &["platform"],
    ),
    bad(
        "from unknown flag",
        "FROM --plattform=linux localhost/base\n",
        1,
        &["plattform", "platform"],
    ),
    bad(
        "from blank variable",
        "ARG NAME\nFROM $NAME\n",
        2,
        &["NAME"],
    ),
    bad(
        "from missing image",
        "FROM localhost/base\nFROM localhost:1/none/such:1\n",
        2,
        &["none/such"],
    ),
    bad("from itself", "FROM again AS again\n", 1, &["again"]),
    bad(
        "from a later stage",
        "FROM later AS one\nFROM one AS later\n",
        1,
        &["later"],
    ),
    bad(
        "same stage twice",
        "FROM localhost/base AS x\nFROM localhost/base AS x\nCOPY --from=y / /\n",
        3,
        &["y"],
    ),
    bad(
        "unknown target",
        "FROM localhost/base AS one\n",
        0,
        &["two"],
    )
    .with("--target two"),
    bad("target number", "FROM localhost/base\n", 0, &["7"]).with("--target 7"),
    // ARG and ENV.
    bad("arg without name", "@\nARG\n", 2, &["ARG"]),
    bad("arg blank name", "@\nARG =x\n", 2, &["ARG"]),
    bad("env without value", "@\nENV A\n", 2, &["ENV"]),
    bad("env without anything", "@\nENV\n", 2, &["ENV"]),
    bad("env blank name", "@\nENV =x\n", 2, &["ENV"]),
    bad("env mixed forms", "@\nENV a=b c\n", 2, &["c"]),
    bad("env quote", "@\nENV a=\"b\n", 2, &["quote"]),
    bad("env single quote", "@\nENV a='b\n", 2, &["quote"]),
    bad("expansion unfinished", "@\nENV a=${b\n", 2, &["${b"]),
    bad(
        "expansion modifier",
        "@\nWORKDIR /${a:*b}\n",
        2,
        &["${a:*b}"],
    ),
    bad(
        "expansion required",
        "@\nENV a=${b:?must be set}\n",
        2,
        &["must be set"],
    ),
    // LABEL, EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL, SHELL, MAINTAINER.
    bad("label without value", "@\nLABEL a\n", 2, &["LABEL"]),
    bad("label without anything", "@\nLABEL\n", 2, &["LABEL"]),
    bad("label blank name", "@\nLABEL =x\n", 2, &["LABEL"]),
    bad("expose without port", "@\nEXPOSE\n", 2, &["EXPOSE"]),
    bad("expose no number", "@\nEXPOSE http\n", 2, &["http"]),
    bad("expose too large", "@\nEXPOSE 65536\n", 2, &["65536"]),
    bad("expose protocol", "@\nEXPOSE 80/icmp\n", 2, &["icmp"]),
    bad("expose range", "@\nEXPOSE 90-80\n", 2, &["90-80"]),
    bad("volume without path", "@\nVOLUME\n", 2, &["VOLUME"]),
    bad("volume empty", "@\nVOLUME [\"\"]\n", 2, &["VOLUME"]),
    bad("user without name", "@\nUSER\n", 2, &["USER"]),
    bad(
        "user unknown",
        "@\nUSER nobody-here\nRUN true\n",
        3,
        &["nobody-here"],
    ),
    bad(
        "group unknown",
        "@\nUSER app:no-group\nRUN true\n",
        3,
        &["no-group"],
    ),
    bad("workdir without path", "@\nWORKDIR\n", 2, &["WORKDIR"]),
    bad(
        "workdir over file",
        "@\nWORKDIR /etc/passwd\n",
        2,
        &["/etc/passwd"],
    ),
    bad(
        "workdir below file",
        "@\nWORKDIR /etc/passwd/x\n",
        2,
        &["/etc/passwd"],
    ),
    bad(
        "stopsignal without signal",
        "@\nSTOPSIGNAL\n",
        2,
        &["STOPSIGNAL"],
    ),
    bad(
        "stopsignal unknown",
        "@\nSTOPSIGNAL SIGNONE\n",
        2,
        &["SIGNONE"],
    ),
    bad(
        "shell no json",
        "@\nSHELL /bin/sh -c\n",
        2,
        &["SHELL", "JSON"],
    ),
    bad("shell empty", "@\nSHELL []\n", 2, &["SHELL"]),
    bad(
        "shell bad json",
        "@\nSHELL [\"/bin/sh\", \"-c\"\n",
        2,
        &["SHELL"],
    ),
    bad(
        "maintainer without name",
        "@\nMAINTAINER\n",
        2,
        &["MAINTAINER"],
    ),
    // HEALTHCHECK and ONBUILD.
    bad(
        "healthcheck nothing",
        "@\nHEALTHCHECK\n",
        2,
        &["HEALTHCHECK"],
    ),
    bad(
        "healthcheck kind",
        "@\nHEALTHCHECK curl localhost\n",
        2,
        &["curl"],
    ),
    bad(
        "healthcheck no command",
        "@\nHEALTHCHECK --interval=5s CMD\n",
        2,
        &["CMD"],
    ),
    bad(
        "healthcheck none words",
        "@\nHEALTHCHECK NONE x\n",
        2,
        &["NONE"],
    ),
    bad(
        "healthcheck duration",
        "@\nHEALTHCHECK --interval=five CMD true\n",
        2,
        &["five"],
    ),
    bad(
        "healthcheck short duration",
        "@\nHEALTHCHECK --timeout=1us CMD true\n",
        2,
        &["1us"],
    ),
    bad(
        "healthcheck negative",
        "@\nHEALTHCHECK --timeout=-1s CMD true\n",
        2,
        &["timeout"],
    ),
    bad(
        "healthcheck retries",
        "@\nHEALTHCHECK --retries=-1 CMD true\n",
        2,
        &["retries"],
    ),
    bad(
        "healthcheck flag",
        "@\nHEALTHCHECK --intervall=1s CMD true\n",
        2,
        &["intervall", "interval"],
    ),
    bad("onbuild nothing", "@\nONBUILD\n", 2, &["ONBUILD"]),
    bad(
        "onbuild onbuild",
        "@\nONBUILD ONBUILD RUN true\n",
        2,
        &["ONBUILD"],
    ),
    bad("onbuild from", "@\nONBUILD FROM x\n", 2, &["FROM"]),
    bad("onbuild unknown", "@\nONBUILD BOGUS\n", 2, &["BOGUS"]),
    // COPY and ADD.
    bad("copy nothing", "@\nCOPY\n", 2, &["COPY"]),
    bad("copy one word", "@\nCOPY a\n", 2, &["COPY"]),
    bad(
        "copy missing",
        "@\nRUN true\nCOPY a missing /x/\n",
        3,
        &["missing"],
    ),
    bad("copy bad pattern", "@\nCOPY [a /x/\n", 2, &["[a"]),
    bad("copy many to file", "@\nCOPY a b /x\n", 2, &["/x"]),
    bad("copy ignored file", "@\nCOPY ignored /x\n", 2, &["ignored"]),
    bad(
        "copy out of context",
        "@\nCOPY ../../../etc/hostname /x\n",
        2,
        &["hostname"],
    ),
    bad(
        "copy link out of context",
        "@\nCOPY out/x /x\n",
        2,
        &["out"],
    ),
    bad("copy link up", "@\nCOPY up/hostname /x\n", 2, &["up"]),
    bad("copy loop", "@\nCOPY loop/x /x\n", 2, &["loop"]),
    bad(
        "copy over directory",
        "@\nCOPY a /etc/passwd/\n",
        2,
        &["/etc/passwd"],
    ),
    bad(
        "copy below file",
        "@\nCOPY a /etc/passwd/x\n",
        2,
        &["/etc/passwd"],
    ),
    bad(
        "copy unknown stage",
        "@\nCOPY --from=localhost:1/no/stage / /\n",
        2,
        &["no/stage"],
    ),
    bad(
        "copy itself",
        "FROM localhost/base AS me\nCOPY --from=me / /x\n",
        2,
        &["me"],
    ),
    bad(
        "copy later stage",
        "@\nCOPY --from=1 / /x\nFROM localhost/base\n",
        2,
        &["1"],
    ),
    bad("copy stage number", "@\nCOPY --from=9 / /x\n", 2, &["9"]),
    bad(
        "copy missing in stage",
        "FROM localhost/base AS one\nFROM localhost/base\nCOPY --from=one /none /x\n",
        3,
        &["/none"],
    ),
    bad("copy flag", "@\nCOPY --form=x a /a\n", 2, &["form", "from"]),
    bad(
        "copy flag twice",
        "@\nCOPY --chown=1 --chown=2 a /a\n",
        2,
        &["chown"],
    ),
    bad(
        "copy chown unknown",
        "@\nCOPY --chown=nobody-here a /a\n",
        2,
        &["nobody-here"],
    ),
    bad(
        "copy chown group",
        "@\nCOPY --chown=app:no-group a /a\n",
        2,
        &["no-group"],
    ),
    bad(
        "copy chown scratch",
        "FROM scratch\nCOPY --chown=app a /a\n",
        2,
        &["app"],
    ),
    bad("copy chmod", "@\nCOPY --chmod=999 a /a\n", 2, &["999"]),
    bad(
        "copy chmod letters",
        "@\nCOPY --chmod=u+q a /a\n",
        2,
        &["u+q"],
    ),
    bad(
        "copy link value",
        "@\nCOPY --link=maybe a /a\n",
        2,
        &["link"],
    ),
    bad("copy url", "@\nCOPY http://localhost/x /x\n", 2, &["COPY"]),
    bad("copy json numbers", "@\nCOPY [1, 2] /x\n", 2, &[]),
    bad(
        "copy heredoc to file",
        "@\nCOPY <<A <<B /x\nA\nB\n",
        2,
        &["/x"],
    ),
    bad("add nothing", "@\nADD\n", 2, &["ADD"]),
    bad("add one word", "@\nADD a\n", 2, &["ADD"]),
    bad("add missing", "@\nADD missing /x\n", 2, &["missing"]),
    bad("add flag", "@\nADD --from=x a /a\n", 2, &["from"]),
    bad(
        "add unreachable",
        "@\nADD http://127.0.0.1:1/x /x\n",
        2,
        &["127.0.0.1:1"],
    ),
    bad(
        "add checksum form",
        "@\nADD --checksum=md5:1 http://127.0.0.1:1/x /x\n",
        2,
        &["checksum"],
    ),
    bad(
        "add checksum of a file",
        "@\nADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 a /x\n",
        2,
        &["checksum"],
    ),
    bad(
        "add git",
        "@\nADD git://127.0.0.1:1/x.git /x\n",
        2,
        &["127.0.0.1:1"],
    ),
    // RUN.
    bad(
        "run fails",
        "@\nRUN true\nRUN echo before the end; exit 7\n",
        3,
        &["7", "before the end"],
    ),
    bad(
        "run fails in a heredoc",
        "@\nRUN <<EOF\necho x\nexit 9\nEOF\n",
        2,
        &["9"],
    ),
    bad(
        "run exec missing",
        "@\nRUN [\"/no/program\"]\n",
        2,
        &["/no/program"],
    ),
    bad(
        "run exec not executable",
        "@\nRUN [\"/etc/passwd\"]\n",
        2,
        &["/etc/passwd"],
    ),
    bad(
        "run no shell",
        "FROM scratch\nCOPY a /a\nRUN true\n",
        3,
        &["/bin/sh"],
    ),
    bad(
        "run killed",
        "@\nRUN sh -c 'kill -9 $$; true'; exit $?\n",
        2,
        &["137"],
    ),
    bad(
        "run in an early stage",
        "FROM localhost/base AS one\nRUN exit 3\nFROM localhost/base\nCOPY --from=one / /x\n",
        2,
        &["3"],
    ),
    bad("run nothing", "@\nRUN\n", 2, &["RUN"]),
    bad("run empty array", "@\nRUN []\n", 2, &["RUN", "program"]),
    bad(
        "run flag",
        "@\nRUN --mont=type=cache,target=/x true\n",
        2,
        &["mont", "mount"],
    ),
    bad(
        "run network",
        "@\nRUN --network=none-such true\n",
        2,
        &["none-such"],
    ),
    bad(
        "run security",
        "@\nRUN --security=relaxed true\n",
        2,
        &["relaxed"],
    ),
    bad(
        "run insecure refused",
        "@\nRUN --security=insecure true\n",
        2,
        &["insecure"],
    ),
    bad(
        "mount type",
        "@\nRUN --mount=type=cach,target=/x true\n",
        2,
        &["cach", "cache"],
    ),
    bad(
        "mount type begun",
        "@\nRUN --mount=type=tmp,target=/x true\n",
        2,
        &["tmp", "tmpfs"],
    ),
    bad(
        "mount key",
        "@\nRUN --mount=type=cache,traget=/x true\n",
        2,
        &["traget", "target"],
    ),
    bad(
        "mount no target",
        "@\nRUN --mount=type=tmpfs true\n",
        2,
        &["target"],
    ),
    bad(
        "mount size",
        "@\nRUN --mount=type=tmpfs,target=/x,size=big true\n",
        2,
        &["big"],
    ),
    bad(
        "mount sharing",
        "@\nRUN --mount=type=cache,target=/x,sharing=all true\n",
        2,
        &["all"],
    ),
    bad(
        "mount root",
        "@\nRUN --mount=type=bind,target=/ true\n",
        2,
        &["/"],
    ),
    bad(
        "mount source missing",
        "@\nRUN --mount=type=bind,source=missing,target=/x true\n",
        2,
        &["missing"],
    ),
    bad(
        "mount from unknown",
        "@\nRUN --mount=type=bind,from=localhost:1/no/stage,target=/x true\n",
        2,
        &["no/stage"],
    ),
    bad(
        "mount from later",
        "FROM localhost/base AS one\nRUN --mount=from=two,target=/x true\nFROM localhost/base AS two\n",
        2,
        &["two"],
    ),
    bad(
        "mount over a file",
        "@\nRUN --mount=type=tmpfs,target=/etc/passwd true\n",
        2,
        &["/etc/passwd"],
    ),
    bad(
        "mount secret required",
        "@\nRUN --mount=type=secret,id=none,required true\n",
        2,
        &["none"],
    ),
    bad(
        "mount ssh required",
        "@\nRUN --mount=type=ssh,required true\n",
        2,
        &["ssh"],
    ),
    bad(
        "mount without equals",
        "@\nRUN --mount=bogus true\n",
        2,
        &["bogus"],
    ),
    // The command line.
    bad("secret file missing", "@\nRUN true\n", 0, &["nowhere"]).with("--secret id=a,src=nowhere"),
    bad("secret form", "@\nRUN true\n", 0, &["bogus"]).with("--secret bogus=1"),
    bad(
        "build context missing",
        "@\nCOPY --from=x a /a\n",
        0,
        &["nowhere"],
    )
    .with("--build-context x=nowhere"),
];

/// Tries all that are wanted.
pub(crate) fn run(report: &mut Report) {
    let title = |bad: &Bad| format!("bad: {}", bad.name);
    let wanted: Vec<&Bad> = BAD.iter().filter(|bad| report.wants(&title(bad))).collect();
    if wanted.is_empty() {
        return;
    }
    println!("\nbroken: {} Dockerfiles", wanted.len());
    let context = Context::new();
    let dir = context.path().join("context");
    let folder = context.path().join("folder");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tree"), CONTEXT).unwrap();
    std::fs::write(folder.join(".dockerignore"), "ignored\n").unwrap();
    std::fs::write(folder.join("ignored"), "").unwrap();
    tree::make(&folder, &dir);
    let archive = base::write(context.path());
    let smidge = Smidge::new(context, &archive);
    let report = Mutex::new(report);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(bad) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = try_one(bad, &smidge, &dir);
                    report.lock().unwrap().row(&title(bad), &outcome, &[]);
                }
            });
        }
    });
}

fn try_one(bad: &Bad, smidge: &Smidge, dir: &Path) -> Outcome {
    let id = bad.name.replace(' ', "-");
    let file = format!("{id}.Dockerfile");
    let text = match bad.text.strip_prefix('@') {
        Some(rest) => format!("FROM {}{rest}", base::NAME),
        None => bad.text.to_owned(),
    };
    std::fs::write(dir.join(&file), &text).unwrap();
    let name = format!("localhost/bad-{id}");
    let mut args = vec!["-t", &*name, "-f", &*file];
    args.extend(bad.args.split_whitespace());
    args.push(".");
    let ran = smidge.try_build(&args, dir);
    let mut wrong = judge(bad, &file, &ran);
    if smidge.has(&name) {
        wrong.push("a name is left".to_owned());
    }
    if wrong.is_empty() {
        return Outcome::Passed;
    }
    wrong.push(ran.stderr());
    Outcome::Failed(wrong)
}

fn judge(bad: &Bad, file: &str, ran: &Ran) -> Vec<String> {
    let stderr = ran.stderr();
    let mut wrong = Vec::new();
    // Or what the RUN said: 101 is a panic's, 124 a build's that hangs.
    if matches!(ran.code(), 0 | 101 | 124 | 134 | 139) || stderr.contains("panicked") {
        wrong.push(format!("exit status {}", ran.code()));
    }
    let place = format!("{file}:{}:", bad.line);
    if bad.line > 0 && !stderr.contains(&place) {
        wrong.push(format!("no `{place}`"));
    }
    // The name of the file itself has words, too.
    let message = stderr.replace(file, "");
    for word in bad.words {
        if !message.contains(word) {
            wrong.push(format!("no `{word}`"));
        }
    }
    wrong
}
