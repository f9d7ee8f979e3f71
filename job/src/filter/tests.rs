use proptest::prelude::*;

use super::*;

fn node(name: &str, tags: &[&str], attributes: &[(&str, &str)]) -> Node {
    Node {
        name: name.parse().unwrap(),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn three() -> Vec<Node> {
    vec![
        node("a", &["web", "linux"], &[("osFamily", "unix")]),
        node("b", &["web", "win"], &[("osFamily", "windows"), ("description", "the \"big\" one, blue")]),
        node("c", &["db", "linux"], &[("osFamily", "unix"), ("healthcheck:status", "RED"), ("rack", " ")]),
    ]
}

#[test]
fn filters_select_what_their_users_expect() {
    fn check(filter: &str, expect: &str) {
        let nodes = three();
        let found = NodeFilter::parse(filter).map(|filter| {
            filter
                .select(&nodes)
                .into_iter()
                .map(|at| nodes[at as usize].name.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        });
        assert_eq!(found, Ok(expect.to_owned()), "{filter:?}");
    }
    // The worked examples of the reference.
    check("", "");
    check("a", "a");
    check("a,b", "a b");
    check("[ab]", "a b");
    check("a b", "a b");
    check("tags: web", "a b");
    check("tags: web+linux", "a");
    check("tags: web+win,db", "b c");
    check("!tags: web", "c");
    check(".* !name: a", "b c");
    check("os-family: unix name: /c/", "c");
    check("osFamily: windows", "b");
    check("name: A", "");
    check("nosuch: x", "");
    check("!nosuch: x", "a b c");
    // Any negative drops a node; the reference's language would keep `a` here.
    check("tags: linux !name: a !tags: db", "");
    check(".* !tags: db !os-family: windows", "a");
    // The same key twice is either.
    check("tags: db tags: win", "b c");
    check("!name: [a] !name: b", "c");
    check("name: a.* name: c", "a c");
    // Lists are exact, patterns are whole.
    check("name: [x].*,c", "c");
    check("name: .", "a b c");
    check("name: (?i)A", "a");
    check("name: /a|b/", "a b");
    check("tags: /w.+/", "a b");
    check("tags: w.*", "a b");
    check("tags: lin.*+d.", "c");
    check("tags: web+", "a b");
    check("tags: ,web", "a b");
    check("tags: \" web + win \"", "b");
    // Blank on either side matches nothing.
    check("name: \"\"", "");
    check("rack: .*", "");
    check("rack: \" \"", "");
    // Keys with colons, values with spaces and quotes.
    check("healthcheck:status: RED", "c");
    check("description: 'the \"big\" one, blue'", "b");
    check("description:\"the \"\"big\"\" one, blue\"", "b");
    check("description: .*big.*", "b");
    check("!foo", "");
    check("nodename: c", "c");
}

#[test]
fn slashes_alone_are_a_text() {
    fn check(filter: &str, expect: &[u32]) {
        let nodes = [node("//", &["//"], &[]), node("/", &[], &[]), node("a", &[], &[("path", "//")])];
        assert_eq!(NodeFilter::parse(filter).unwrap().select(&nodes), expect, "{filter:?}");
    }
    check("//", &[0]);
    check("name: //", &[0]);
    check("name: /", &[1]);
    check("tags: //", &[0]);
    check("path: //", &[2]);
    check("name: /.+/", &[0, 1, 2]);
}

#[test]
fn mistakes_say_where() {
    fn check(filter: &str, column: u32, part: &str) {
        match NodeFilter::parse(filter) {
            Err(invalid) => {
                assert_eq!(invalid.column, column, "{filter:?}: {invalid}");
                assert!(invalid.to_string().contains(part), "{filter:?}: {invalid}");
            }
            Ok(_) => panic!("{filter:?} was taken"),
        }
    }
    check("tags: web name: (", 11, "not a regular expression");
    check("name: /(/", 1, "not a regular expression");
    check("*", 1, "repetition operator");
    check("name: (?=a)", 1, "look-around");
    check("name: (a{1000}){1000}", 1, "larger than");
    check("tags: a+(", 1, "not a regular expression");
    check("tags:", 1, "no value");
    check("name: 'a", 7, "not closed");
    check(&format!("name: {}", "(".repeat(2000)), 1, "longer than");
}

#[test]
fn ranks_read_numbers_as_numbers() {
    fn check(by: &str, order: Order, values: &[(&str, &str)], expect: &str) {
        let nodes: Vec<_> = values
            .iter()
            .map(|(name, rack)| {
                node(name, &[], if rack.is_empty() { &[] } else { std::slice::from_ref(&("rack", "")) })
            })
            .zip(values)
            .map(|(mut node, (_, rack))| {
                if !rack.is_empty() {
                    node.attributes.insert("rack".to_owned(), (*rack).to_owned());
                }
                node
            })
            .collect();
        let mut indices: Vec<u32> = (0..u32::try_from(nodes.len()).unwrap()).collect();
        arrange(&nodes, &mut indices, Some(&Rank { by: by.to_owned(), order }), "");
        let found: Vec<_> = indices.into_iter().map(|at| nodes[at as usize].name.as_str()).collect();
        assert_eq!(found.join(" "), expect);
    }
    let racks = [("web10", "2"), ("web9", "10"), ("x", ""), ("web1", "2")];
    check("rack", Order::Ascending, &racks, "web1 web10 web9 x");
    check("rack", Order::Descending, &racks, "web9 web1 web10 x");
    check("name", Order::Ascending, &racks, "web1 web9 web10 x");
    check("rack", Order::Ascending, &[("a", "r1b"), ("b", "r1"), ("c", "r01")], "c b a");
}

proptest! {
    #[test]
    fn a_filter_never_panics(text in "\\PC{0,60}") {
        if let Ok(filter) = NodeFilter::parse(&text) {
            let _ = filter.select(&three());
        }
    }

    /// Negatives only remove, and each removes on its own.
    #[test]
    fn negatives_only_remove(plain in "[a-c.]{1,2}", first in "[a-c]", second in "(web|db|linux)") {
        let select = |text: &str| NodeFilter::parse(text).unwrap().select(&three());
        let all = select(&plain);
        let without = select(&format!("{plain} !name: {first} !tags: {second}"));
        let one = select(&format!("{plain} !name: {first}"));
        let other = select(&format!("{plain} !tags: {second}"));
        let both: Vec<_> = all.into_iter().filter(|at| one.contains(at) && other.contains(at)).collect();
        prop_assert_eq!(without, both);
    }

    /// A name that is written literally and escaped selects exactly that node.
    #[test]
    fn an_escaped_name_selects_its_node(name in "[ -~]{1,20}") {
        prop_assume!(!name.trim().is_empty() && name.trim() == name);
        // Between slashes stands an expression, not a name.
        prop_assume!(!(name.len() > 2 && name.starts_with('/') && name.ends_with('/')));
        let nodes = [node(&name, &[], &[]), node("other-node-name-here", &[], &[])];
        let escaped = regex::escape(&name).replace('"', "\"\"");
        let filter = NodeFilter::parse(&format!("name: \"{escaped}\"")).unwrap();
        prop_assert_eq!(filter.select(&nodes), vec![0]);
    }

    #[test]
    fn arranging_is_independent_of_the_order_before(names in proptest::collection::btree_set("[a-b0-2]{1,4}", 1..20), seed in any::<u64>()) {
        let nodes: Vec<_> = names.iter().map(|name| node(name, &[], &[])).collect();
        let count = u32::try_from(nodes.len()).unwrap();
        let mut one: Vec<u32> = (0..count).collect();
        let mut other = one.clone();
        other.sort_by_key(|at| u64::from(*at).wrapping_mul(seed | 1));
        arrange(&nodes, &mut one, None, "");
        arrange(&nodes, &mut other, None, "");
        prop_assert_eq!(one, other);
    }
}
