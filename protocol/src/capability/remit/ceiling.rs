//! The owner's side of a remit: each thing that a job gives becomes a permit where a rule of the ceiling covers it, with
//! the secrets that may go there, or a denial with the lines that the owner would have to write.

use std::collections::BTreeMap;

use super::{
    Remit, Subject,
    remedy::{http_lines, quoted},
};
use crate::{
    SecretName, SecretPath,
    capability::{
        Ceiling, Denial, Grant, Side,
        exec::{self, ExecPermit},
        files::FilesGrant,
        http::{HttpCeiling, HttpPermit},
        secrets::{BoundSecret, HttpPlacement, SecretCeiling, SecretUse},
        ssh::{SshLogin, SshPermit, SshPlace},
        tcp::{self, TcpPermit},
    },
};

pub(super) struct Context<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) secrets: &'a BTreeMap<SecretName, Vec<SecretPath>>,
    pub(super) ceiling: &'a Ceiling,
}

impl Context<'_> {
    pub(super) fn http(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.http {
            let Subject { component, project } = self.subject;
            let permits = |ceiling: &&HttpCeiling| ceiling.permits(&given.scope, component, project);
            let Some(ceiling) = self.ceiling.http.iter().find(permits) else {
                let lines = http_lines("[[ceiling.http]]", given);
                let remedy = match given.scope.endpoint() {
                    None => lines,
                    Some(name) => {
                        // Where the owner has it already stays on the host.
                        let known =
                            self.ceiling.http.iter().any(|rule| rule.scope.endpoint() == Some(name.clone()));
                        let unix = match known {
                            true => "unix = \"/…\"   # the socket of its other rules".to_owned(),
                            false => format!("unix = \"/run/{name}.sock\""),
                        };
                        format!("{lines}\n{unix}\ncomponents = [\"{component}\"]")
                    }
                };
                denials.push(Denial { permission: given.scope.to_string(), side: Side::Ceiling, remedy });
                continue;
            };
            let secret = match &given.secret {
                None => None,
                Some(wanted) => {
                    let host = given.scope.host.exact().unwrap_or_default();
                    let port = given.scope.port;
                    let placed = |rule: &SecretCeiling| {
                        rule.hosts.iter().any(|named| named.host == host && named.port == port)
                    };
                    let places = format!("hosts = [\"{host}:{port}\"]");
                    match self.one_secret(&wanted.name, wanted.placement.kind(), placed, &places, denials) {
                        Some(path) => Some(bound(&wanted.name, path, Some(wanted.placement.clone()))),
                        None => continue,
                    }
                }
            };
            remit.http.push(HttpPermit {
                scope: given.scope.clone(),
                unix: ceiling.endpoint.as_ref().map(|endpoint| endpoint.unix.clone()),
                private: if given.private { ceiling.private.clone() } else { Vec::new() },
                via: ceiling.via,
                ca_file: ceiling.ca_file.clone(),
                secret,
            });
        }
    }

    pub(super) fn exec(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.exec {
            let fits = |args: &[exec::ArgPattern]| {
                given.args.as_ref().is_none_or(|wanted| exec::covers_all(args, wanted))
            };
            let ceilings: Vec<_> =
                self.ceiling.exec.iter().filter(|c| c.program == given.program && fits(&c.args)).collect();
            if ceilings.is_empty() {
                let args = given.args.iter().flatten();
                denials.push(Denial {
                    permission: format!("exec {}", given.program),
                    side: Side::Ceiling,
                    remedy: format!(
                        "[[ceiling.exec]]\nprogram = {:?}\npath = \"/usr/bin/{}\"\nargs = [{}]",
                        given.program,
                        given.program,
                        quoted(args)
                    ),
                });
                continue;
            }
            let secret = match &given.secret {
                None => None,
                Some(wanted) => {
                    let placed = |rule: &SecretCeiling| rule.programs.contains(&given.program);
                    let places = format!("programs = [\"{}\"]", given.program);
                    match self.one_secret(&wanted.name, wanted.given.usage(), placed, &places, denials) {
                        Some(path) => Some((wanted.given.clone(), bound(&wanted.name, path, None))),
                        None => continue,
                    }
                }
            };
            for ceiling in ceilings {
                remit.exec.push(ExecPermit {
                    program: given.program.clone(),
                    path: ceiling.path.clone(),
                    args: std::iter::once(ceiling.args.clone()).chain(given.args.clone()).collect(),
                    cwd: ceiling.cwd.clone(),
                    env: ceiling.env.clone(),
                    variables: ceiling.variables.clone(),
                    secret: secret.clone(),
                });
            }
        }
    }

    pub(super) fn ssh(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.ssh {
            if self.ceiling.ssh.is_empty() {
                denials.push(Denial {
                    permission: "ssh to the node".to_owned(),
                    side: Side::Ceiling,
                    remedy: "[[ceiling.ssh]]\naddresses = [\"10.20.0.0/16\"]\nusers = [\"deploy\"]\nknown_hosts = \"known_hosts\""
                        .to_owned(),
                });
                continue;
            }
            let mut logins = Vec::new();
            if let Some(wanted) = &given.secret {
                let paths = self.paths(&wanted.name, denials);
                for path in paths {
                    let rules = self.rules(path, wanted.usage).collect::<Vec<_>>();
                    if rules.is_empty() {
                        denials.push(self.secret_denial(path, wanted.usage, "users = [\"deploy\"]"));
                        continue;
                    }
                    logins.push(SshLogin {
                        secret: bound(&wanted.name, path, None),
                        users: rules.into_iter().flat_map(|rule| rule.users.clone()).collect(),
                    });
                }
            }
            let places = self.ceiling.ssh.iter().map(|place| SshPlace {
                addresses: place.addresses.clone(),
                port: place.port,
                users: place.users.clone(),
                known_hosts: place.known_hosts.clone(),
            });
            remit.ssh = Some(SshPermit {
                places: places.collect(),
                usage: given.secret.as_ref().map(|secret| secret.usage),
                secrets: logins,
            });
        }
    }

    pub(super) fn tcp(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.tcp {
            let Some(ceiling) = self.ceiling.tcp.iter().find(|ceiling| ceiling.scope.covers(&given.scope))
            else {
                denials.push(Denial {
                    permission: given.scope.to_string(),
                    side: Side::Ceiling,
                    remedy: tcp::lines("[[ceiling.tcp]]", &given.scope),
                });
                continue;
            };
            let secret = match &given.secret {
                None => None,
                Some(wanted) => {
                    let (host, port) = (given.scope.host.exact().unwrap_or_default(), given.scope.port);
                    let placed = |rule: &SecretCeiling| {
                        rule.hosts.iter().any(|named| named.host == host && named.port == port)
                    };
                    let places = format!("hosts = [\"{host}:{port}\"]");
                    match self.one_secret(&wanted.name, wanted.usage, placed, &places, denials) {
                        Some(path) => Some(bound(&wanted.name, path, None)),
                        None => continue,
                    }
                }
            };
            remit.tcp.push(TcpPermit {
                scope: given.scope.clone(),
                private: if given.private { ceiling.private.clone() } else { Vec::new() },
                ca_file: ceiling.ca_file.clone(),
                secret,
            });
        }
    }

    pub(super) fn files(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.files {
            match given {
                FilesGrant::Scratch => remit.files.scratch = true,
                FilesGrant::Artifacts => remit.files.artifacts = true,
                // It is nothing of this host's: whoever runs the job gives it.
                FilesGrant::Option(name) => remit.files.options.push(name.clone()),
                FilesGrant::Named(name) => match self.ceiling.files.iter().find(|file| file.name == *name) {
                    Some(file) => remit.files.named.push((name.clone(), file.path.clone())),
                    None => denials.push(Denial {
                        permission: format!("files {name}"),
                        side: Side::Ceiling,
                        remedy: format!("[[ceiling.files]]\nname = {name:?}\npath = \"/…\"\nmode = \"ro\""),
                    }),
                },
            }
        }
    }

    pub(super) fn reveal(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.reveal {
            if let Some(path) = self.one_secret(&given.name, SecretUse::Reveal, |_| true, "", denials) {
                remit.reveal.push(bound(&given.name, path, None));
            }
        }
    }

    /// The paths that the job binds `name` to; says so if there is none.
    fn paths(&self, name: &SecretName, denials: &mut Vec<Denial>) -> &[SecretPath] {
        let paths = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        if paths.is_empty() {
            denials.push(Denial {
                permission: format!("the secret {name}"),
                side: Side::Grant,
                remedy: format!("secrets: {{ {name}: keys/… }}"),
            });
        }
        paths
    }

    /// The owner's rules for a secret used in this way by this component in this project.
    fn rules<'b>(
        &'b self,
        path: &'b SecretPath,
        usage: SecretUse,
    ) -> impl Iterator<Item = &'b SecretCeiling> {
        self.ceiling.secrets.iter().filter(move |rule| {
            rule.path == *path
                && rule.usage == usage
                && rule.components.as_ref().is_none_or(|named| named.contains(self.subject.component))
                && rule.projects.as_ref().is_none_or(|named| named.contains(self.subject.project))
        })
    }

    /// The one path that `name` is bound to, if the owner lets it be used so at the place that `placed` looks for.
    fn one_secret(
        &self,
        name: &SecretName,
        usage: SecretUse,
        placed: impl Fn(&SecretCeiling) -> bool,
        places: &str,
        denials: &mut Vec<Denial>,
    ) -> Option<&SecretPath> {
        let path = match self.paths(name, denials) {
            [] => return None,
            [path] => path,
            [_, ..] => {
                denials.push(Denial {
                    permission: format!("the secret {name}, bound to several paths"),
                    side: Side::Grant,
                    remedy: format!(
                        "secrets: {{ {name}: keys/… }}   # one path; only ssh chooses among several"
                    ),
                });
                return None;
            }
        };
        if self.rules(path, usage).any(placed) {
            return Some(path);
        }
        denials.push(self.secret_denial(path, usage, places));
        None
    }

    fn secret_denial(&self, path: &SecretPath, usage: SecretUse, places: &str) -> Denial {
        Denial {
            permission: format!("the secret {path} as {}", usage.as_str()),
            side: Side::Ceiling,
            remedy: format!(
                "[[ceiling.secrets]]\npath = \"{path}\"\nuse = \"{}\"\n{places}{}components = [\"{}\"]",
                usage.as_str(),
                if places.is_empty() { "" } else { "\n" },
                self.subject.component
            ),
        }
    }
}

fn bound(name: &SecretName, path: &SecretPath, placement: Option<HttpPlacement>) -> BoundSecret {
    BoundSecret { name: name.clone(), path: path.clone(), placement }
}
