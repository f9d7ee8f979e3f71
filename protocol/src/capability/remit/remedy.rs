//! Rules as the lines that a denial prints: whoever may allow them pastes them as they are.

use crate::capability::http::{HttpGrant, Scheme};

pub(super) fn quoted<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

pub(super) fn http_lines(header: &str, given: &HttpGrant) -> String {
    let scope = &given.scope;
    if let Some(name) = scope.endpoint() {
        return format!(
            "{header}\nendpoint = \"{name}\"\nmethods = [{}]\npaths = [{}]",
            quoted(scope.methods.iter().map(|method| method.as_str())),
            quoted(scope.paths.iter().map(|path| path.as_str())),
        );
    }
    format!(
        "{header}\n{}host = \"{}\"\nport = {}\nmethods = [{}]\npaths = [{}]",
        if scope.scheme == Scheme::Http { "scheme = \"http\"\n" } else { "" },
        scope.host,
        scope.port,
        quoted(scope.methods.iter().map(|method| method.as_str())),
        quoted(scope.paths.iter().map(|path| path.as_str())),
    )
}
