use super::*;

/// What was written, and a clock that is set.
#[derive(Default)]
struct Paper {
    written: Mutex<String>,
    now: Mutex<Duration>,
}

impl Screen for std::sync::Arc<Paper> {
    fn size(&self) -> (usize, usize) {
        (80, 24)
    }

    fn write(&self, text: &str) {
        self.written.lock().unwrap().push_str(text);
    }

    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }
}

fn plain(quiet: bool) -> (Plain<std::sync::Arc<Paper>>, std::sync::Arc<Paper>) {
    let paper = std::sync::Arc::new(Paper::default());
    (Plain::on(std::sync::Arc::clone(&paper), quiet), paper)
}

fn pass(paper: &Paper, milliseconds: u64) {
    *paper.now.lock().unwrap() += Duration::from_millis(milliseconds);
}

fn name(stage: &str, number: usize, text: &str) -> StepName {
    StepName {
        stage: (!stage.is_empty()).then(|| stage.to_owned()),
        number,
        total: 4,
        text: text.to_owned(),
        platform: None,
    }
}

#[test]
fn steps_are_told_as_buildkit_tells_them() {
    let (plain, paper) = plain(false);
    plain.step(&name("", 1, "FROM scratch")).finish();
    plain.step(&name("", 2, "COPY . .")).cached();
    let step = plain.step(&name("", 3, "RUN make"));
    drop(plain.task("packing", Some(7)));
    pass(&paper, 312);
    step.output(b"cc -o x x.c\nld");
    pass(&paper, 100);
    step.output(b" x\nno newline");
    step.finish();
    step.finish();
    drop(step);
    drop(plain);
    expect_test::expect![[r"
        #1 [1/4] FROM scratch
        #1 DONE 0.0s

        #2 [2/4] COPY . .
        #2 CACHED

        #3 [3/4] RUN make
        #3 0.312 cc -o x x.c
        #3 0.412 ld x
        #3 0.412 no newline
        #3 DONE 0.4s
    "]]
    .assert_eq(&paper.written.lock().unwrap());
}

#[test]
fn steps_side_by_side_are_told_one_after_another() {
    let (plain, paper) = plain(false);
    let one = plain.step(&name("a", 2, "RUN one"));
    let two = plain.step(&name("b", 2, "RUN two"));
    one.output(b"one: 1\n");
    two.output(b"two: 1\n");
    one.output(b"one: 2\n");
    // It has had its time.
    pass(&paper, 2500);
    two.output(b"two: 2\n");
    one.output(b"one: 3\n");
    two.finish();
    one.finish();
    drop((one, two));
    expect_test::expect![[r"
        #1 [a 2/4] RUN one
        #1 0.000 one: 1
        #1 0.000 one: 2
        #1 ...

        #2 [b 2/4] RUN two
        #2 0.000 two: 1
        #2 2.500 two: 2
        #2 DONE 2.5s

        #1 [a 2/4] RUN one
        #1 2.500 one: 3
        #1 DONE 2.5s
    "]]
    .assert_eq(&paper.written.lock().unwrap());
}

#[test]
fn the_last_words_of_what_failed_come_last() {
    for quiet in [false, true] {
        let (plain, paper) = plain(quiet);
        let other = plain.step(&name("a", 3, "RUN sleep"));
        let step = plain.step(&name("b", 2, "RUN make"));
        step.output(b"no rule\n");
        step.fail("exit status 2");
        drop((step, other));
        plain.line("something else");
        drop(plain);
        let written = paper.written.lock().unwrap();
        let words = "------\n > [b 2/4] RUN make:\n0.000 no rule\n------\n";
        assert!(written.ends_with(words), "{written}");
        if quiet {
            assert_eq!(*written, words);
        } else {
            assert!(written.contains("#2 ERROR: exit status 2\n"), "{written}");
            assert!(written.contains("#1 CANCELED\n"), "{written}");
        }
    }
}
