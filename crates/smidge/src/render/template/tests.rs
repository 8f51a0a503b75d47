use serde_json::json;

use super::*;

fn data() -> Data {
    Data {
        value: json!({
            "ID": "3f2a91c04b7d",
            "Image": "ghcr.io/acme/api:1.4",
            "Names": ["web", "front"],
            "Size": 1234,
            "Ratio": 2.5,
            "Up": true,
            "Empty": "",
            "None": null,
            "State": {"Status": "running", "Pid": 42},
            "Config": {
                "Labels": {"b": "2", "a": "1"}, "Env": [], "Cmd": null, "Volumes": null,
                "StopSignal": null, "Healthcheck": null, "ExposedPorts": {"80/tcp": {}},
            },
            "NetworkSettings": {"Ports": {"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}]}},
        }),
        labels: [("com.example.tier".to_owned(), "gold".to_owned())].into(),
        is_head: false,
    }
}

fn shown(template: &str) -> String {
    match Template::parse(template).and_then(|template| template.render(&data())) {
        Ok(text) => text,
        Err(fault) => format!("{}..{}: {}", fault.span.0, fault.span.1, fault.message),
    }
}

#[test]
fn structs_and_absent_values_look_as_their_go_types_do() {
    for (template, expected) in [
        ("{{.Config.Cmd}} {{.Config.Volumes}}", "[] map[]"),
        ("{{.Config.StopSignal}}|{{.Config.Healthcheck}}", "|<nil>"),
        ("{{json .Config.Cmd}}", "null"),
        ("{{.Config.ExposedPorts}}", "map[80/tcp:{}]"),
        (
            "{{.NetworkSettings.Ports}}",
            "map[8080/tcp:[{0.0.0.0 8081}]]",
        ),
    ] {
        assert_eq!(shown(template), expected, "{template}");
    }
}

#[test]
fn templates_render_as_go_renders_them() {
    for (template, expected) in [
        ("plain", "plain"),
        ("", ""),
        ("{{.ID}}", "3f2a91c04b7d"),
        ("a {{ .ID }} b", "a 3f2a91c04b7d b"),
        ("{{.State.Pid}}", "42"),
        ("{{.Ratio}} {{.Up}} {{.None}}", "2.5 true <no value>"),
        ("{{.Names}}", "[web front]"),
        ("{{.Config.Labels}}", "map[a:1 b:2]"),
        ("{{json .Names}}", r#"["web","front"]"#),
        ("{{.Names | json}}", r#"["web","front"]"#),
        ("{{json .None}}", "null"),
        (r#"{{join .Names ", "}}"#, "web, front"),
        (
            r#"{{upper .ID}} {{lower "ABC"}} {{title "two words"}}"#,
            "3F2A91C04B7D abc Two Words",
        ),
        (r#"{{index (split .Image ":") 0}}"#, "ghcr.io/acme/api"),
        (
            r#"{{index .Config.Labels "a"}}-{{index .Config.Labels "zz"}}-"#,
            "1--",
        ),
        (
            r#"{{.Config.Labels.a}} {{.Config.Labels.zz}}"#,
            "1 <no value>",
        ),
        (
            r#"{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}"#,
            "8081",
        ),
        (
            "{{slice .ID 0 4}} {{slice .Names 1}} {{len .Names}} {{len .ID}}",
            "3f2a [front] 2 12",
        ),
        (
            r#"{{.Label "com.example.tier"}}|{{.Label "none"}}"#,
            "gold|",
        ),
        (r#"{{truncate .ID 3}}{{pad "x" 1 2}}|"#, "3f2 x  |"),
        ("{{/* nothing */}}x{{- /* trimmed */ -}} y", "xy"),
        ("a  {{- 1 -}}  b", "a1b"),
        ("{{ -1 }} {{- -2}}", "-1-2"),
        (
            "{{`raw \\n`}} {{\"tab\\t\\u00e9\\x41\"}} {{'A'}} {{0x1f}} {{1.5}} {{1_000}}",
            "raw \\n tab\té\u{41} 65 31 1.5 1000",
        ),
        ("{{true}}{{false}}", "truefalse"),
        ("{{$x := .State}}{{$x.Pid}} {{$.ID}}", "42 3f2a91c04b7d"),
        ("{{$x := 1}}{{if .Up}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .Up}}{{$x := 2}}{{end}}{{$x}}", "1"),
    ] {
        assert_eq!(shown(template), expected, "{template}");
    }
}

#[test]
fn control_structures_work() {
    for (template, expected) in [
        ("{{if .Up}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}a{{else if .None}}b{{else}}c{{end}}", "c"),
        ("{{if not .Empty}}empty{{end}}", "empty"),
        (
            r#"{{if and .Up (eq .State.Status "running")}}yes{{end}}"#,
            "yes",
        ),
        (r#"{{if or .Empty (gt .Size 1000)}}big{{end}}"#, "big"),
        (
            r#"{{with .State}}{{.Status}}{{end}}{{with .Empty}}no{{else}}none{{end}}"#,
            "runningnone",
        ),
        ("{{range .Names}}[{{.}}]{{end}}", "[web][front]"),
        (
            "{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}",
            "0=web;1=front;",
        ),
        ("{{range $n := .Names}}{{$n}}{{end}}", "webfront"),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}",
            "a:1 b:2 ",
        ),
        ("{{range .Config.Env}}x{{else}}no env{{end}}", "no env"),
        (
            "{{range .Names}}{{if eq . \"front\"}}{{break}}{{end}}{{.}}{{end}}",
            "web",
        ),
        (
            "{{range .Names}}{{if eq . \"web\"}}{{continue}}{{end}}{{.}}{{end}}",
            "front",
        ),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{(index $c 0).HostPort}}{{end}}",
            "8080/tcp -> 8081",
        ),
        (
            "{{range .Names}}{{$.ID}} {{end}}",
            "3f2a91c04b7d 3f2a91c04b7d ",
        ),
    ] {
        assert_eq!(shown(template), expected, "{template}");
    }
}

#[test]
fn printing_and_comparing_follow_go() {
    for (template, expected) in [
        (
            r#"{{printf "%s|%5s|%-5s|%.2s" "abc" "ab" "ab" "abc"}}"#,
            "abc|   ab|ab   |ab",
        ),
        (
            r#"{{printf "%d %05d %x %v %q %t %.2f%%" 7 42 255 .Names "q" true .Ratio}}"#,
            "7 00042 ff [web front] \"q\" true 2.50%",
        ),
        (
            r#"{{printf "%d" "x"}} {{printf "%s"}} {{printf "a" 1}}"#,
            "%!d(string=x) %!s(MISSING) a%!(EXTRA 1)",
        ),
        (r#"{{println "a" 1}}"#, "a 1\n"),
        (r#"{{print 1 2 "a" 3}}"#, "1 2a3"),
        (
            r#"{{eq 1 2 1}} {{ne "a" "b"}} {{lt 1 2.5}} {{le "a" "a"}} {{ge 2 3}}"#,
            "true true true true false",
        ),
        (r#"{{eq .None nil}}"#, "true"),
        (
            r#"{{html "<a b='c'>"}} {{"a b&é" | urlquery}} {{js "it's <x>"}}"#,
            r"&lt;a b=&#39;c&#39;&gt; a+b%26%C3%A9 it\'s \u003Cx\u003E",
        ),
        (
            "{{with .Empty}}a{{else with .ID}}{{.}}{{end}}",
            "3f2a91c04b7d",
        ),
    ] {
        assert_eq!(shown(template), expected, "{template}");
    }
}

#[test]
fn faults_carry_their_position() {
    for (template, expected) in [
        ("{{.Nope}}", "2..7: no field `Nope`; there are "),
        ("{{.id}}", "2..5: no field `id`; did you mean `ID`?"),
        ("{{.ID.Nope}}", "2..10: no field `Nope` in a string"),
        ("a {{.ID", "2..4: this `{{` is never closed by `}}`"),
        ("{{\"abc}}", "2..3: this string is never closed"),
        ("{{nope .ID}}", "2..6: there is no function `nope`"),
        ("{{$nope}}", "2..7: unknown variable `$nope`"),
        ("{{if .Up}}", "0..10: this `if` has no `{{end}}`"),
        (
            "{{range .Names}}{{else}}",
            "0..16: this `range` has no `{{end}}`",
        ),
        ("x{{end}}", "1..8: `end` without"),
        ("{{else}}", "0..8: `else` without"),
        ("{{}}{{.ID |}}", "4..13: a value is missing"),
        ("{{(.ID}}", "2..3: this `(` is never closed by `)`"),
        ("{{.ID)}}", "5..6: unexpected here"),
        ("{{.ID ?}}", "6..7: unexpected `?`"),
        (
            "{{range .ID}}{{end}}",
            "8..11: `range` needs a list or an object",
        ),
        ("{{.ID 1}}", "2..5: this is not a function"),
        ("{{len 1}}", "2..5: `len` of a number"),
        (
            "{{index .Names 9}}",
            "2..7: index 9 is out of range: the list has 2 items",
        ),
        ("{{slice .ID 5 99}}", "2..7: slice 5:99 is out of range"),
        (
            "{{lt .Names 1}}",
            "2..4: `lt` cannot compare a list with a number",
        ),
        ("{{1x}}", "2..4: `1x` is not a number"),
        (r#"{{"\z"}}"#, "3..5: unknown escape"),
        ("{{é.ID?}}", "7..8: unexpected `?`"),
    ] {
        let shown = shown(template);
        assert!(shown.starts_with(expected), "{template}: {shown}");
    }
}

#[test]
fn hostile_nesting_is_refused() {
    let parentheses = format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(shown(&parentheses).contains("nested too deeply"));
    let ifs = "{{if 1}}".repeat(100_000);
    assert!(shown(&ifs).contains("nested too deeply"));
    let wide = r#"{{printf "%999999999999s" "x"}}"#;
    assert_eq!(shown(wide).len(), 4096);
    for junk in [
        "{{", "{{-", "{{- ", "}}", "{{}}", "{{.", "{{..}}", "{{|}}", "{{'", "{{\\", "{{-}}", "{{/*",
    ] {
        let _ = shown(junk);
    }
}
