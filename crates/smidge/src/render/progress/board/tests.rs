use std::num::NonZero;
use std::sync::atomic::AtomicUsize;

use super::*;

/// A terminal that is remembered, with a clock that is set.
struct Fake {
    parser: Mutex<vt100::Parser>,
    now: Mutex<Duration>,
    writes: AtomicUsize,
}

impl Fake {
    fn new(rows: u16, columns: u16) -> Arc<Self> {
        let [rows, columns] = [rows, columns].map(|size| NonZero::new(size).unwrap());
        Arc::new(Self {
            parser: Mutex::new(vt100::Parser::new(rows, columns, 100)),
            now: Mutex::default(),
            writes: AtomicUsize::new(0),
        })
    }

    /// What is on the screen, without empty lines at its end, and where the cursor is.
    fn shown(&self) -> (String, (u16, u16)) {
        let parser = self.parser.lock().unwrap();
        let screen = parser.screen();
        (screen.contents(), screen.cursor_position())
    }
}

impl Screen for Arc<Fake> {
    fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.parser.lock().unwrap().screen().size();
        (columns.get().into(), rows.get().into())
    }

    fn write(&self, text: &str) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.parser.lock().unwrap().process(text.as_bytes());
    }

    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }
}

fn board(rows: u16, columns: u16) -> Board<Arc<Fake>> {
    let board = Board::new(Fake::new(rows, columns));
    board.screen.write("$ smidge pull x\r\n");
    board
}

fn pass(board: &Board<Arc<Fake>>, milliseconds: u64) {
    *board.screen.now.lock().unwrap() += Duration::from_millis(milliseconds);
}

fn blob<'b>(board: &'b Board<Arc<Fake>>, name: &str, total: u64) -> Box<dyn Task + 'b> {
    board.blob(&Digest::of(name.as_bytes()), Action::Pull, Some(total))
}

const MB: u64 = 1_000_000;

#[test]
fn what_is_over_at_once_is_never_shown() {
    let board = board(10, 80);
    let task = blob(&board, "a", MB);
    pass(&board, 99);
    task.advance(MB);
    task.finish();
    drop(task);
    assert_eq!(board.screen.writes.load(Ordering::Relaxed), 1);
}

#[test]
fn each_blob_has_a_line_and_all_have_a_total() {
    let board = board(10, 80);
    board.expect(3, 12 * MB);
    let (one, two) = (blob(&board, "a", 4 * MB), blob(&board, "b", 4 * MB));
    one.advance(MB);
    pass(&board, 1000);
    two.advance(2 * MB);
    pass(&board, 1000);
    one.advance(MB);
    expect_test::expect![[r"
        $ smidge pull x
        ca978112ca1b: Pulling [===========>             ]    2MB/4MB       1MB/s     2s
        3e23e8160039: Pulling [===========>             ]    2MB/4MB       1MB/s     2s
        total 0/3             [=======>                 ]    4MB/12MB      2MB/s     4s"]]
    .assert_eq(&board.screen.shown().0);
    one.advance(2 * MB);
    one.finish();
    pass(&board, 1000);
    two.advance(0);
    expect_test::expect![[r"
        $ smidge pull x
        3e23e8160039: Pulling [===========>             ]    2MB/4MB     667kB/s     3s
        total 1/3             [===========>             ]    6MB/12MB      2MB/s     3s"]]
    .assert_eq(&board.screen.shown().0);
    two.finish();
    // One more is awaited: what is there stays until it comes, or until all is over.
    assert_ne!(board.screen.shown().0, "$ smidge pull x");
    let three = blob(&board, "c", 4 * MB);
    three.advance(4 * MB);
    three.finish();
    assert_eq!(board.screen.shown(), ("$ smidge pull x".to_owned(), (1, 0)));
}

#[test]
fn nothing_is_left_however_it_ends() {
    let board = board(10, 80);
    board.expect(5, 10 * MB);
    let task = blob(&board, "a", MB);
    pass(&board, 100);
    task.advance(1);
    assert_eq!(board.screen.shown().1, (3, 0));
    // An error: nothing is finished, all is dropped.
    drop(task);
    let screen = Arc::clone(&board.screen);
    drop(board);
    assert_eq!(screen.shown(), ("$ smidge pull x".to_owned(), (1, 0)));
}

#[test]
fn more_work_than_rows_shows_what_there_is_room_for() {
    for (rows, lines) in [(24, 7), (8, 7), (5, 4), (4, 3), (3, 2), (2, 1), (1, 0)] {
        let board = Board::new(Fake::new(rows, 80));
        board.screen.write("$\r\n");
        let tasks: Vec<_> = (0..6).map(|n| blob(&board, &format!("{n}"), MB)).collect();
        for _ in 0..20 {
            pass(&board, 100);
            tasks[0].advance(1000);
        }
        let text = board.screen.shown().0;
        let pulling = text.lines().filter(|line| line.contains("Pulling")).count();
        let total = text
            .lines()
            .filter(|line| line.starts_with("total"))
            .count();
        assert_eq!(pulling + total, lines, "{rows} rows:\n{text}");
        assert_eq!(total, usize::from(lines > 0), "{rows} rows:\n{text}");
        drop(tasks);
        let scrolled = board.screen.parser.lock().unwrap().screen().contents();
        assert!(!scrolled.contains("Pulling"), "{rows} rows:\n{scrolled}");
    }
}

#[test]
fn lines_are_narrower_than_the_terminal() {
    for columns in 1..100 {
        let board = board(30, columns);
        let tasks: Vec<_> = (0..3).map(|n| blob(&board, &format!("{n}"), MB)).collect();
        for _ in 0..5 {
            pass(&board, 500);
            tasks[1].advance(100_000);
        }
        let widest = board.state().drawn.iter().copied().max().unwrap();
        assert!(widest < usize::from(columns), "{widest} of {columns}");
        drop(tasks);
        let (text, (_, column)) = board.screen.shown();
        assert!(!text.contains("total"), "{columns} columns:\n{text}");
        assert_eq!(column, 0);
    }
}

#[test]
fn lines_that_a_narrower_terminal_wrapped_are_taken_back_whole() {
    // 70 characters take two rows of 40 columns, three of 30.
    assert_eq!(to_start(&[70, 10], 80), "\r\x1b[2A");
    assert_eq!(to_start(&[70, 10], 40), "\r\x1b[3A");
    assert_eq!(to_start(&[70, 0], 30), "\r\x1b[4A");
    assert_eq!(to_start(&[], 30), "\r");
    assert_eq!(to_start(&[5], 0), "\r\x1b[5A");
}

#[test]
fn other_lines_come_above_the_bars() {
    let board = board(10, 80);
    board.line("before");
    let task = board.task("packing", None);
    pass(&board, 200);
    task.advance(1500);
    board.line("between");
    expect_test::expect![[r"
        $ smidge pull x
        before
        between
        packing  1.5kB"]]
    .assert_eq(&board.screen.shown().0);
    task.finish();
    assert!(board.screen.shown().0.ends_with("between"));
    assert_eq!(board.screen.shown().1, (3, 0));
}

#[test]
fn what_was_there_already_is_no_speed() {
    let board = board(10, 80);
    let task = blob(&board, "a", 10 * MB);
    task.resume(9 * MB);
    pass(&board, 1000);
    task.advance(0);
    pass(&board, 1000);
    task.advance(100_000);
    let (text, _) = board.screen.shown();
    assert!(text.contains("9.1MB/10MB     50kB/s    18s"), "{text}");
    task.resume(0);
    pass(&board, 1000);
    task.advance(100_000);
    let (text, _) = board.screen.shown();
    assert!(text.contains("100kB/10MB    100kB/s"), "{text}");
}

#[test]
fn many_threads_report_at_once() {
    let board = board(20, 80);
    board.expect(8, 8 * MB);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let board = &board;
            scope.spawn(move || {
                let task = blob(board, &format!("{n}"), MB);
                for _ in 0..1000 {
                    pass(board, 1);
                    task.advance(1000);
                }
                task.finish();
            });
        }
    });
    assert_eq!(board.screen.shown(), ("$ smidge pull x".to_owned(), (1, 0)));
    // Eight seconds at ten drawings a second, and what cleared and wrote the first line.
    let writes = board.screen.writes.load(Ordering::Relaxed);
    assert!(writes <= 82, "{writes}");
}

#[test]
fn no_size_is_too_large() {
    let board = board(10, 80);
    board.expect(usize::MAX, u64::MAX);
    board.expect(usize::MAX, u64::MAX);
    let tasks = [blob(&board, "a", u64::MAX), blob(&board, "b", u64::MAX)];
    pass(&board, 1000);
    tasks[0].advance(u64::MAX);
    tasks[1].resume(u64::MAX);
    pass(&board, 1000);
    tasks[0].finish();
    tasks[1].advance(0);
}

fn step<'b>(board: &'b Board<Arc<Fake>>, number: usize, text: &str) -> Box<dyn StepTask + 'b> {
    board.step(&StepName {
        stage: Some("build".to_owned()),
        number,
        total: 4,
        text: text.to_owned(),
        platform: None,
    })
}

#[test]
fn steps_stay_when_they_are_over_and_show_their_output_before() {
    let board = board(12, 50);
    step(&board, 1, "FROM busybox").finish();
    step(&board, 2, "COPY . .").cached();
    let task = step(&board, 3, "RUN make");
    for line in 0..8 {
        pass(&board, 100);
        task.output(format!("compiling {line}\n").as_bytes());
    }
    expect_test::expect![[r"
        $ smidge pull x
         => [build 1/4] FROM busybox                 0.0s
         => CACHED [build 2/4] COPY . .              0.0s
        [+] Building 0.8s (2/4)
         => [build 3/4] RUN make                     0.8s
         => => # compiling 2
         => => # compiling 3
         => => # compiling 4
         => => # compiling 5
         => => # compiling 6
         => => # compiling 7"]]
    .assert_eq(&board.screen.shown().0);
    task.finish();
    drop(task);
    expect_test::expect![[r"
        $ smidge pull x
         => [build 1/4] FROM busybox                 0.0s
         => CACHED [build 2/4] COPY . .              0.0s
         => [build 3/4] RUN make                     0.8s"]]
    .assert_eq(&board.screen.shown().0);
}

#[test]
fn steps_beside_those_of_the_dockerfile_count_too() {
    let board = board(12, 50);
    let beside = |text: &str| {
        board.step(&StepName {
            text: text.to_owned(),
            ..StepName::default()
        })
    };
    beside("importing cache manifest from a").finish();
    let one = |number: usize| {
        board.step(&StepName {
            number,
            total: 2,
            text: "RUN make".to_owned(),
            ..StepName::default()
        })
    };
    one(1).finish();
    one(2).finish();
    let task = beside("exporting cache to a");
    pass(&board, 200);
    task.output(b"writing\n");
    let shown = board.screen.shown().0;
    assert!(shown.contains("[+] Building 0.2s (3/4)"), "{shown}");
}

#[test]
fn the_last_words_of_a_step_come_when_all_is_over() {
    let board = board(12, 50);
    let (one, two) = (step(&board, 1, "RUN make"), step(&board, 2, "RUN sleep"));
    pass(&board, 500);
    one.output(b"no rule\n");
    one.fail("exit status 2");
    drop((one, two));
    let screen = Arc::clone(&board.screen);
    drop(board);
    expect_test::expect![[r"
        $ smidge pull x
         => ERROR [build 1/4] RUN make               0.5s
         => CANCELED [build 2/4] RUN sleep           0.5s
        ------
         > [build 1/4] RUN make:
        0.500 no rule
        ------"]]
    .assert_eq(&screen.shown().0);
}

#[test]
fn steps_fit_terminals_of_any_size() {
    for (rows, columns) in [(3, 12), (1, 1), (5, 30), (30, 200)] {
        let board = board(rows, columns);
        let tasks: Vec<_> = (1..4)
            .map(|number| {
                step(
                    &board,
                    number,
                    "RUN 日本語日本語日本語日本語日本語 and more",
                )
            })
            .collect();
        let bar = blob(&board, "a", MB);
        for task in &tasks {
            pass(&board, 200);
            task.output("日本\tgrößer\n".repeat(40).as_bytes());
        }
        bar.advance(1);
        let rows_drawn = board.state().drawn.len();
        assert!(rows_drawn < usize::from(rows).max(1), "{rows}x{columns}");
        for width in &board.state().drawn {
            assert!(*width < usize::from(columns), "{rows}x{columns}: {width}");
        }
        drop((tasks, bar));
        let screen = Arc::clone(&board.screen);
        drop(board);
        assert_eq!(screen.shown().1.1, 0, "{rows}x{columns}");
    }
}

#[test]
fn bars_are_drawn_below_steps() {
    let board = board(10, 60);
    let task = step(&board, 1, "RUN make");
    let bar = blob(&board, "a", 4 * MB);
    pass(&board, 200);
    bar.advance(MB);
    let shown = board.screen.shown().0;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].starts_with("[+] Building 0.2s (0/4)"), "{shown}");
    assert!(lines[2].starts_with(" => [build 1/4] RUN make"), "{shown}");
    assert!(lines[3].starts_with("ca978112ca1b: Pulling"), "{shown}");
    bar.finish();
    drop(bar);
    pass(&board, 200);
    task.output(b"");
    assert_eq!(board.screen.shown().0.lines().count(), 3);
}
