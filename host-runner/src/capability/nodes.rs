//! `nodes`: where a node source puts what it finds.

use std::collections::HashMap;

use remit_protocol::{
    NodeName, Tag,
    limits::{MAX_NODE_SET, MAX_NODES},
    node::{Node, NodeSet},
};

use super::{
    Fault,
    bindings::remit::step::nodes::Host,
    types::{self, CapabilityError},
};
use crate::{
    broker::{Answer, Broker, Call},
    sandbox::State,
};

/// A node as a component says it: nothing of it is checked yet.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Words {
    name: String,
    tags: Vec<String>,
    attributes: Vec<(String, String)>,
}

impl Words {
    /// How many bytes it brings.
    pub(crate) fn size(&self) -> usize {
        let tags: usize = self.tags.iter().map(String::len).sum();
        let attributes: usize = self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.name.len() + tags + attributes
    }
}

impl From<types::Node> for Words {
    fn from(node: types::Node) -> Self {
        let types::Node { name, tags, attributes } = node;
        Self { name, tags, attributes }
    }
}

/// Most nodes in one page.
const MAX_PAGE: usize = 1000;

/// The nodes of one run of a node source: each name once, the last one said counts.
#[derive(Debug, Default)]
pub(crate) struct Found {
    nodes: Vec<Node>,
    places: HashMap<NodeName, usize>,
    bytes: u64,
}

/// Why a page is not taken.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    TooLong,
    Full,
    Unacceptable(String),
}

impl Found {
    /// Takes a page, all of it or nothing.
    fn take(&mut self, page: Vec<Node>) -> Result<(), Refused> {
        if page.len() > MAX_PAGE {
            return Err(Refused::TooLong);
        }
        let bytes = self.bytes + page.iter().map(weight).sum::<u64>();
        let new = page.iter().filter(|node| !self.places.contains_key(&node.name)).count();
        if bytes > MAX_NODE_SET || self.nodes.len() + new > MAX_NODES {
            return Err(Refused::Full);
        }
        for node in &page {
            node.check().map_err(|error| Refused::Unacceptable(error.to_string()))?;
        }
        self.bytes = bytes;
        for node in page {
            match self.places.get(&node.name) {
                Some(place) => self.nodes[*place] = node,
                None => {
                    self.places.insert(node.name.clone(), self.nodes.len());
                    self.nodes.push(node);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn into_set(self) -> NodeSet {
        NodeSet { nodes: self.nodes }
    }
}

/// About the bytes of a node in the stored set; a replaced node stays counted, so that replacing in a loop ends.
fn weight(node: &Node) -> u64 {
    let tags: usize = node.tags.iter().map(|tag| tag.as_str().len() + 3).sum();
    let attributes: usize = node.attributes.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    u64::try_from(node.name.as_str().len() + tags + attributes + 40).unwrap_or(u64::MAX)
}

fn read(node: Words) -> Result<Node, String> {
    let name = NodeName::new(node.name.clone())
        .map_err(|error| format!("node {:?}: {error}", node.name.chars().take(80).collect::<String>()))?;
    let tags = node.tags.into_iter().map(Tag::new).collect::<Result<_, _>>();
    let tags = tags.map_err(|error| format!("node {name}: {error}"))?;
    let given = node.attributes.len();
    let attributes: std::collections::BTreeMap<_, _> = node.attributes.into_iter().collect();
    if attributes.len() != given {
        return Err(format!("node {name}: an attribute stands twice"));
    }
    Ok(Node { name, tags, attributes })
}

impl Host for State {
    async fn emit(&mut self, page: Vec<types::Node>) -> Result<(), Fault> {
        let page = page.into_iter().map(Words::from).collect();
        match self.ask(Call::Emit(page)).await? {
            Answer::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }
}

impl Broker {
    pub(crate) fn take_nodes(&mut self, page: Vec<Words>) -> Result<(), Fault> {
        let Some(found) = &mut self.found else {
            return Err(Fault::failed(
                "this run does not take nodes: only `discover` of a node source emits them",
            ));
        };
        let full = |what: &str| Fault::Answer(CapabilityError::OverLimit(what.to_owned()));
        if page.len() > MAX_PAGE {
            return Err(full("a page has at most 1,000 nodes"));
        }
        let page = page.into_iter().map(read).collect::<Result<Vec<_>, _>>().map_err(Fault::failed)?;
        found.take(page).map_err(|refused| match refused {
            Refused::TooLong => full("a page has at most 1,000 nodes"),
            Refused::Full => full("a node set has at most 100,000 nodes and 128 MiB"),
            Refused::Unacceptable(why) => Fault::failed(why),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, os: &str) -> Node {
        let attributes = vec![("os".to_owned(), os.to_owned())];
        read(Words { name: name.to_owned(), tags: vec![], attributes }).unwrap()
    }

    #[test]
    fn a_later_node_replaces_and_a_bad_page_is_not_taken_at_all() {
        let mut found = Found::default();
        found.take(vec![node("a", "linux"), node("b", "linux")]).unwrap();
        found.take(vec![node("a", "bsd")]).unwrap();
        let bad = vec![node("c", "x"), node("d", &"y".repeat(17 << 10))];
        assert!(matches!(found.take(bad), Err(Refused::Unacceptable(_))));
        let names: Vec<_> = found.into_set().nodes;
        assert_eq!(names, vec![node("a", "bsd"), node("b", "linux")]);
    }

    #[test]
    fn a_set_holds_a_hundred_thousand_nodes_and_no_more() {
        let mut found = Found::default();
        for page in 0..100 {
            found.take((0..1000).map(|n| node(&format!("n{page}-{n}"), "linux")).collect()).unwrap();
        }
        assert_eq!(found.take(vec![node("one-more", "linux")]), Err(Refused::Full));
        assert_eq!(found.take(vec![node("n0-0", "bsd")]), Ok(()));
        assert_eq!(found.into_set().nodes.len(), MAX_NODES);
    }

    #[test]
    fn names_and_attributes_are_read_strictly() {
        fn check(name: &str, attributes: &[&str], expect: bool) {
            let attributes = attributes.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            let read = read(Words { name: name.to_owned(), tags: vec![], attributes });
            assert_eq!(read.is_ok(), expect, "{name:?}");
        }
        check("web-1", &["a", "b"], true);
        check("web-1", &["a", "a"], false);
        check("", &[], false);
        check("a\nb", &[], false);
    }
}
