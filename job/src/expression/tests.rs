use proptest::prelude::*;
use remit_protocol::{
    ExecutionId, Outcome, Revision, Timestamp,
    assignment::{NodesView, StepView},
    node::Node,
};
use serde_json::{Value, json};

use super::*;

pub(crate) fn scope(options: Value) -> Scope {
    let Value::Object(options) = options else { panic!("options are a map") };
    let execution = ExecutionView {
        id: ExecutionId::from_parts(Timestamp::from_millis(1_800_000_000_000), 7),
        job: "restart_web".parse().unwrap(),
        revision: Revision(3),
        started_by: "ada".to_owned(),
    };
    let mut scope = Scope::new(&"ops".parse().unwrap(), &execution, &options);
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let drain = StepView {
        outcome: Outcome::Failed,
        outputs: None,
        nodes: Some(NodesView { succeeded: names(&["web1", "web2"]), failed: names(&["web3"]) }),
    };
    scope.set_step(&"drain".parse().unwrap(), &drain);
    let fetch = StepView {
        outcome: Outcome::Succeeded,
        outputs: Some(json!({"status": 200, "body": {"ok": true}})),
        nodes: None,
    };
    scope.set_step(&"fetch".parse().unwrap(), &fetch);
    scope
}

fn web1() -> Node {
    Node {
        name: "web1".parse().unwrap(),
        tags: ["web", "linux"].iter().map(|tag| tag.parse().unwrap()).collect(),
        attributes: [("hostname", "10.20.1.11:22"), ("rack", "a"), ("healthcheck:status", "GREEN")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    }
}

fn evaluated(source: &str) -> Result<Value, String> {
    let options = json!({
        "service": "web", "batch": 5, "flag": true, "list": ["a", "b", "c"], "text": "line one\n\"${options.x}\"",
        "map": {"k": 1, "l": [1, 2]}, "ratio": 0.5,
    });
    let scope = scope(options).with_node(&web1());
    Expression::new(source)
        .and_then(|expression| expression.evaluate(&scope))
        .map_err(|invalid| invalid.to_string())
}

#[test]
fn expressions_come_to_values() {
    fn check(source: &str, expect: Value) {
        assert_eq!(evaluated(source), Ok(expect), "{source}");
    }
    check("options.batch", json!(5));
    check("options['batch']", json!(5));
    check("options.batch + 1 * 2", json!(7));
    check("(options.batch + 1) * 2", json!(12));
    check("-options.batch", json!(-5));
    check("- 9007199254740991", json!(-9_007_199_254_740_991_i64));
    check("7 / 2", json!(3));
    check("7.0 / 2.0", json!(3.5));
    check("-7 % 3", json!(-1));
    check("1 == 1.0", json!(true));
    check("1 < 1.5", json!(true));
    check("'b' > 'a'", json!(true));
    check("options.service + '-' + node.name", json!("web-web1"));
    check("[1] + [2, 3]", json!([1, 2, 3]));
    check("{'a': options.batch, 'b': [true, null]}", json!({"a": 5, "b": [true, null]}));
    check("options.map.l[1]", json!(2));
    check("options.map['k']", json!(1));
    check("options.list[options.batch - 4]", json!("b"));
    check("options.flag && !false", json!(true));
    check("options.flag ? 'yes' : 'no'", json!("yes"));
    check("false ? 1 / 0 : 2", json!(2));
    // One side that decides is enough.
    check("true || options.nosuch == 1", json!(true));
    check("options.nosuch == 1 || true", json!(true));
    check("options.nosuch == 1 && false", json!(false));
    check("has(options.nosuch)", json!(false));
    check("has(options.batch) && has(node.rack) && !has(node.nosuch)", json!(true));
    check("has(steps.fetch.outputs) && !has(steps.drain.outputs)", json!(true));
    check("has(options.map.k)", json!(true));
    check("steps.drain.outcome == 'succeeded'", json!(false));
    check("steps.fetch.outputs.body.ok", json!(true));
    check("size(steps.drain.nodes.succeeded)", json!(2));
    check("node.name in steps.drain.nodes.succeeded", json!(true));
    check("'linux' in node.tags", json!(true));
    check("node.hostname", json!("10.20.1.11:22"));
    check("node.attributes['healthcheck:status']", json!("GREEN"));
    check("node['rack']", json!("a"));
    check("project.name", json!("ops"));
    check("execution.revision == 3 && execution.started_by == 'ada'", json!(true));
    check("size(execution.id)", json!(26));
    check("options.list.map(x, x + '!')", json!(["a!", "b!", "c!"]));
    check("options.list.filter(x, x != 'b').map(x, [x])", json!([["a"], ["c"]]));
    check("[1, 2, 3].map(x, x > 1, x * 10)", json!([20, 30]));
    check("options.list.exists(x, x == 'c')", json!(true));
    check("options.list.all(x, size(x) == 1)", json!(true));
    check("options.list.exists_one(x, x == 'c')", json!(true));
    check("options.map.exists(k, k == 'l')", json!(true));
    check("[1, 'x'].exists(x, x > 5) || true", json!(true));
    check("[0, 2].exists(x, 4 / x == 2)", json!(true));
    check("'Web'.lowerAscii() + 'x'.upperAscii()", json!("webX"));
    check("' a '.trim()", json!("a"));
    check("'a,b'.split(',')", json!(["a", "b"]));
    check("options.list.join(', ')", json!("a, b, c"));
    check("'a.b.c'.replace('.', '-')", json!("a-b-c"));
    check("'web-12'.matches('^web-[0-9]+$')", json!(true));
    check("'web'.startsWith('w') && 'web'.endsWith('b') && 'web'.contains('e')", json!(true));
    check("size('öß') + 'öß'.size()", json!(4));
    check("int('42') + int(3.9)", json!(45));
    check("double('0.5') == options.ratio", json!(true));
    check("string(5) + string(true)", json!("5true"));
    check("bool('true')", json!(true));
    check("r'a\\b' == 'a\\\\b'", json!(true));
    check("\"it's\" + 'a }'", json!("it'sa }"));
    check("null == null", json!(true));
    check("{'a': 1} == {'a': 1.0} && [1] != [2]", json!(true));
    check("options.text", json!("line one\n\"${options.x}\""));
}

#[test]
fn what_cannot_be_evaluated_says_why() {
    fn check(source: &str, part: &str) {
        let found = evaluated(source);
        assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{source}: {found:?}");
    }
    check("", "is empty");
    check("1 +", "cannot be read");
    check("options.", "cannot be read");
    check("options", "as a whole");
    check("steps.drain", "as a whole");
    check("[steps.drain]", "as a whole");
    check("secrets.token", "does not exist");
    check("option.batch", "does not exist");
    check("options.nosuch", "has no value");
    check("steps.later.outcome", "has not been run");
    check("steps.drain.status", "a step has");
    check("steps.drain['status']", "a step has");
    check("steps.drain.nodes.lost", "nodes.succeeded");
    check("project.id", "no such variable");
    check("node.nosuch", "does not have");
    check("1 / 0", "divides by zero");
    check("1 % 0", "divides by zero");
    check("9007199254740991 + 1", "beyond");
    check("9223372036854775807 * 2", "beyond");
    check("1.0e308 * 10.0", "not finite");
    check("'a' + 1", "a text and an integer");
    check("1 && true", "wants a boolean");
    check("'a' < 1", "a text and an integer");
    check("options.list[3]", "a list of 3");
    check("options.list[-1]", "a list of 3");
    check("options.map.x", "there is k, l");
    check("options.map['x']", "there is k, l");
    check("size(1)", "on an integer");
    check("int('x')", "on a text");
    check("nosuch(1)", "there are size");
    check("'a'.size(1)", "wrongly");
    check("contains('a', 'b')", "wrongly");
    check("'a'.matches('(')", "not a regular expression");
    check("'a'.matches('(a{1000}){1000}')", "or too large");
    check("1u", "unsigned");
    check("b'x'", "bytes");
    check("Foo{a: 1}", "message");
    check("x.y", "does not exist");
    check("[1].map(options, 1)", "no variable");
    check("[1].map(1, 1)", "no variable");
    check("5.map(x, x)", "wants a list");
    check("(5).map(x, x)", "wants a list");
    check("[1].filter(x, x)", "wants a boolean");
    check("has(1)", "without a field");
    check("{1: 2}", "keys are texts");
    check("{'a': 1, 'a': 2}", "twice");
    check("1 // comment", "comment");
    check("'unclosed", "not closed");
    check("(1", "not closed");
    check("1)", "closes nothing");
    check("a\u{0}b", "control character");
    check("ö", "inside quotes");
}

/// Each of these took gigabytes, minutes or a thread's whole stack in one evaluator or another.
#[test]
fn what_would_take_gigabytes_is_refused() {
    fn check(source: &str, part: &str) {
        let found = evaluated(source);
        assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{:.80}: {:.200?}", source, found);
    }
    // 460 characters and less: macros in macros multiply.
    let ten = "[0,1,2,3,4,5,6,7,8,9]";
    let nested = (0..8).fold("0".to_owned(), |inner, at| format!("{ten}.map(v{at}, {inner})"));
    assert!(nested.len() <= 460);
    check(&nested, "inside a macro");
    check("[1].map(x, [2].map(y, x))", "inside a macro");
    check("[1].all(x, [2].exists(y, y == x))", "inside a macro");
    check("[[1].map(x, x)].map(y, [1].filter(z, true))", "inside a macro");
    // A chain of macros doubles each time: here 2^60 items.
    let doubled = (0..60).fold("[0]".to_owned(), |inner, _| format!("{inner}.map(x,[x,x])"));
    check(&doubled, "chains more");
    let short = (0..20).fold("[0]".to_owned(), |inner, _| format!("{inner}.map(x,[x,x])"));
    check(&short, "larger than");
    let wide = format!("[{}]", "x,".repeat(60) + "x");
    let widened = (0..6).fold("['a']".to_owned(), |inner, _| format!("{inner}.map(x,{wide})"));
    check(&widened, "larger than");
    // Growing texts.
    let squared = (0..20).fold("'aaaaaaaa'".to_owned(), |inner, _| format!("{inner}.replace('a','aaaa')"));
    check(&squared, "larger than");
    // 3 KB that recurse.
    check(&"(".repeat(3000), "at most 1024");
    check(&"(".repeat(1000), "nests deeper");
    check(&"[".repeat(1000), "nests deeper");
    check(&"!".repeat(1000), "nests deeper");
    check(&format!("{}1", "-".repeat(1000)), "nests deeper");
    check(&format!("{}1", "- ".repeat(500)), "nests deeper");
    check(&format!("{}true", "!(".repeat(300)), "nests deeper");
    check(&format!("{}1", "true ? 1 : ".repeat(90)), "nests deeper");
    check(&format!("1{}", " + 1".repeat(250)), "chains more");
    check(&format!("1{}", " in 1".repeat(200)), "chains more");
    check(&format!("options{}", ".a".repeat(400)), "chains more");
    check(&format!("options{}", "[0]".repeat(200)), "chains more");
}

#[test]
fn a_large_option_cannot_be_multiplied() {
    let large = "x".repeat(900 << 10);
    let scope = scope(
        json!({ "large": large, "list": vec!["abcdefgh"; 30_000], "many": (0..60_000).collect::<Vec<_>>() }),
    );
    let check = |source: &str, part: &str| {
        let found = Expression::new(source).unwrap().evaluate(&scope).map_err(|invalid| invalid.to_string());
        assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{source}: {:.200?}", found);
    };
    check("options.large + options.large", "larger than");
    check("[options.large, options.large]", "larger than");
    check("{'a': options.large, 'b': options.large}", "larger than");
    check("[1, 2].map(x, options.large)", "larger than");
    check("options.large.replace('x', 'yy')", "larger than");
    check("options.large.split('')", "larger than");
    check("options.many.map(x, 'a').join(options.large)", "larger than");
    check("options.list + options.list + options.list", "larger than");
    // Time: each item looks through the whole list, or through the whole text.
    check("options.many.filter(x, x in options.many)", "takes too long");
    check("options.list.map(x, options.large.contains('y'))", "takes too long");
    check("options.list.exists(x, options.large == options.large + 'x')", "takes too long");
    check("options.list.all(x, !options.large.matches('(x+x+)+y'))", "takes too long");
    assert_eq!(
        Expression::new("options.many.filter(x, x % 2 == 0).size()").unwrap().evaluate(&scope),
        Ok(json!(30_000))
    );
}

/// The deepest texts that the bounds let through are parsed and evaluated on the small stack of a worker thread.
#[test]
fn the_deepest_allowed_expression_fits_a_small_stack() {
    let deepest = [
        format!("{}1{}", "(".repeat(16), ")".repeat(16)),
        format!("{}1{}", "[".repeat(16), "]".repeat(16)),
        format!("{}true", "!".repeat(16)),
        format!("1{}", " + 1".repeat(48)),
        format!("{}2", "true ? 1 : ".repeat(16)),
        format!("true{}", " && true".repeat(120)),
        format!("true{}", " || 1 == 1".repeat(90)),
        format!("{}1{}", "(1 + 1 + ".repeat(16), ")".repeat(16)),
        format!("{}1{}", "[1 + 1 * ".repeat(16), "]".repeat(16)),
        format!("options.map{}", ".k".repeat(47)),
        format!("'a'{}", ".trim()".repeat(24)),
        format!("[{}1]", "1,".repeat(500)),
    ];
    let run = move || {
        for source in &deepest {
            let expression = Expression::new(source);
            assert!(expression.is_ok(), "{source:.60}: {expression:?}");
            let _ = expression.unwrap().evaluate(&scope(json!({"map": {}})));
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn names_are_collected() {
    let expression =
        Expression::new("options.a + options['b'] + steps.x.outputs.y + node.rack + steps.x.outcome")
            .unwrap();
    let found: Vec<_> = expression
        .references()
        .iter()
        .map(|r| {
            format!(
                "{}.{}{}",
                r.root.as_str(),
                r.field,
                r.second.as_ref().map(|s| format!(".{s}")).unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        found,
        ["options.a", "options.b", "steps.x", "steps.x.outcome", "steps.x.outputs", "node.rack"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_text_panics(source in "[ -~\\n]{0,80}") {
        let _ = evaluated(&source);
    }

    #[test]
    fn no_text_of_tokens_panics(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "options", "steps", "node", ".", "a", "list", "map", "(", ")", "[", "]", "{", "}", ":", ",", "?", "+", "-", "*", "/", "%",
        "!", "==", "<", "in", "&&", "||", "1", "1.5", "'x'", "\"", "true", "null", "has", "map", "filter", "x", "0x1F", "1u", "r'", "b'",
        "\\", "'''", "`", "$", "#", ";", "@", "e", "E9", "\n", "9999999999999999999", "..", "matches", "size",
    ]), 0..24)) {
        let _ = evaluated(&tokens.join(" "));
        let _ = evaluated(&tokens.concat());
    }
}

#[test]
fn variables_stand_beside_the_projects_name_and_never_in_its_place() {
    let execution = ExecutionView {
        id: ExecutionId::from_u128(1),
        job: "restart".parse().unwrap(),
        revision: Revision(3),
        started_by: "ada".to_owned(),
    };
    let variables = json!({"region": "eu-1", "name": "other", "sizes": [1, 2]});
    let scope = Scope::new(&"ops".parse().unwrap(), &execution, &serde_json::Map::new())
        .with_variables(variables.as_object().unwrap());
    let value = |source: &str| Expression::new(source).unwrap().evaluate(&scope).unwrap();
    assert_eq!(value("project.name"), json!("ops"));
    assert_eq!(value("project.region"), json!("eu-1"));
    assert_eq!(value("project.sizes[1]"), json!(2));
}
