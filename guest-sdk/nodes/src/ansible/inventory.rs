//! Groups, hosts and variables, and which of them a host ends up with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::hosts;
use crate::Value;

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, Value>;

/// Groups stand in one another at most so deep.
const MAX_DEPTH: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Group {
    hosts: Vec<String>,
    pub(crate) children: Vec<String>,
    pub(crate) variables: Variables,
}

/// An inventory as it stands.
#[derive(Debug, Default)]
pub struct Inventory {
    groups: BTreeMap<String, Group>,
    /// In the order of their first appearance.
    order: Vec<String>,
    own: HashMap<String, Variables>,
}

/// A host with everything that holds for it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) variables: Variables,
}

impl Inventory {
    /// The group of this name, made if it is new.
    pub(crate) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// Puts a host into a group; its variables add to those that it has.
    pub(crate) fn add_host(&mut self, group: &str, name: &str, variables: &[(String, Value)]) {
        let own = self.own.entry(name.to_owned()).or_insert_with(|| {
            self.order.push(name.to_owned());
            Variables::new()
        });
        own.extend(variables.iter().cloned());
        self.group(group).hosts.push(name.to_owned());
    }

    /// Adds a document of a YAML inventory: groups by name.
    pub(crate) fn add_yaml(&mut self, document: &Value) -> Result<(), String> {
        match document {
            Value::Null => Ok(()),
            Value::Map(groups) => {
                groups.iter().try_for_each(|(name, group)| self.add_yaml_group(name, group, 0))
            }
            Value::Scalar(_) | Value::List(_) => {
                Err("it is no inventory: a map of groups is expected, such as `all: { hosts: … }`".to_owned())
            }
        }
    }

    fn add_yaml_group(&mut self, name: &str, group: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("the group {name:?} stands more than {MAX_DEPTH} groups deep"));
        }
        self.group(name);
        let Value::Map(parts) = group else {
            return match group {
                Value::Null => Ok(()),
                _ => Err(format!("the group {name:?} is not a map of hosts, vars and children")),
            };
        };
        for (key, part) in parts {
            match (key.as_str(), part) {
                (_, Value::Null) => {}
                ("hosts", Value::Map(hosts)) => {
                    for (pattern, variables) in hosts {
                        let variables = match variables {
                            Value::Null => &[],
                            Value::Map(variables) => variables.as_slice(),
                            _ => return Err(format!("the host {pattern:?} is not a map of variables")),
                        };
                        for host in hosts::expand(pattern)? {
                            self.add_host(name, &host, variables);
                        }
                    }
                }
                ("vars", Value::Map(variables)) => {
                    self.group(name).variables.extend(variables.iter().cloned());
                }
                ("children", Value::Map(children)) => {
                    for (child, group) in children {
                        self.group(name).children.push(child.clone());
                        self.add_yaml_group(child, group, depth + 1)?;
                    }
                }
                (other, _) => {
                    return Err(format!(
                        "the group {name:?} holds {other:?}: a group is a map of hosts, vars and children, each a map"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What `ansible-inventory --list` prints: groups by name, and the variables of hosts under `_meta`.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_list(list: &Value) -> Result<Self, String> {
        let Value::Map(groups) = list else { return Err("it printed no inventory".to_owned()) };
        let mut inventory = Self::default();
        let names = |group: &Value, key: &str| match group.get(key) {
            Some(Value::List(items)) => items
                .iter()
                .filter_map(|item| match item {
                    Value::Scalar(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        for (name, group) in groups.iter().filter(|(name, _)| name != "_meta") {
            inventory.group(name).children = names(group, "children");
            if let Some(Value::Map(variables)) = group.get("vars") {
                inventory.group(name).variables.extend(variables.iter().cloned());
            }
            for host in names(group, "hosts") {
                inventory.add_host(name, &host, &[]);
            }
        }
        if let Some(Value::Map(hosts)) = list.get("_meta").and_then(|meta| meta.get("hostvars")) {
            for (host, variables) in hosts {
                if let Value::Map(variables) = variables {
                    match inventory.own.get_mut(host) {
                        Some(own) => own.extend(variables.iter().cloned()),
                        None => inventory.add_host("ungrouped", host, variables),
                    }
                }
            }
        }
        Ok(inventory)
    }

    /// The hosts in the order of their first appearance. Of a variable that several groups set, the group that stands
    /// deeper holds, among equals the later by name, and what the host sets itself holds over all.
    pub(crate) fn hosts(mut self) -> Result<Vec<Host>, String> {
        let depths = self.depths()?;
        let mut parents: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut direct: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, group) in &self.groups {
            for child in &group.children {
                parents.entry(child).or_default().push(name);
            }
            for host in &group.hosts {
                direct.entry(host).or_default().push(name);
            }
        }
        let mut found = Vec::with_capacity(self.order.len());
        for name in &self.order {
            let mut groups: BTreeSet<&str> = BTreeSet::from(["all"]);
            let mut open = direct.get(name.as_str()).cloned().unwrap_or_default();
            while let Some(group) = open.pop() {
                if groups.insert(group) {
                    open.extend(parents.get(group).into_iter().flatten());
                }
            }
            let mut ordered: Vec<&str> = groups.iter().copied().collect();
            ordered.sort_by_key(|group| (depths.get(*group).copied().unwrap_or(0), *group));
            let mut variables = Variables::new();
            for group in ordered {
                if let Some(group) = self.groups.get(group) {
                    variables.extend(group.variables.clone());
                }
            }
            variables.extend(self.own.remove(name).unwrap_or_default());
            let groups = groups.into_iter().map(str::to_owned).collect();
            found.push(Host { name: name.clone(), groups, variables });
        }
        Ok(found)
    }

    /// How deep each group stands below `all`: the longest way.
    fn depths(&self) -> Result<HashMap<String, usize>, String> {
        let mut depths: HashMap<String, usize> =
            self.groups.keys().map(|name| (name.clone(), usize::from(name != "all"))).collect();
        // Without a circle the longest way is found after as many rounds as there are groups in it.
        for _ in 0..=MAX_DEPTH {
            let mut changed = false;
            for (name, group) in &self.groups {
                let below = depths.get(name).copied().unwrap_or(0) + 1;
                for child in &group.children {
                    let depth = depths.entry(child.clone()).or_insert(0);
                    if *depth < below {
                        *depth = below;
                        changed = true;
                    }
                }
            }
            if !changed {
                return Ok(depths);
            }
        }
        let (deepest, _) = depths.iter().max_by_key(|(name, depth)| (**depth, name.as_str())).unzip();
        Err(format!(
            "groups stand in one another in a circle, or more than {MAX_DEPTH} deep: look at {:?}",
            deepest.map(String::as_str).unwrap_or_default()
        ))
    }
}
