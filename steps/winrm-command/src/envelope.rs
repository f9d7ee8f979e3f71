//! What is said to WinRM: SOAP envelopes after MS-WSMV, with the windows shell (`winrs`) as the resource.

use std::{cell::Cell, collections::BTreeMap, fmt::Write as _, time::Duration};

use remit_sdk::Context;

const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";

/// Makes the envelopes of one run; each has a number of its own.
pub(crate) struct Envelope {
    to: String,
    seed: u64,
    number: Cell<u64>,
}

impl Envelope {
    pub(crate) fn new(to: &str, context: &Context) -> Self {
        // FNV-1a: the number has to differ from run to run, not to be secret.
        let key = format!("{}{}", context.idempotency_key(), context.attempt());
        let seed = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { to: to.to_owned(), seed, number: Cell::new(0) }
    }

    fn wrap(&self, action: &str, shell: Option<&str>, options: &str, hold: Duration, body: &str) -> String {
        let number = self.number.get() + 1;
        self.number.set(number);
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            self.seed >> 32,
            (self.seed >> 16) & 0xffff,
            (self.seed >> 4) & 0xfff,
            self.seed & 0xfff,
            number
        );
        let selectors = shell.map_or_else(String::new, |shell| {
            format!(
                "<w:SelectorSet><w:Selector Name=\"ShellId\">{}</w:Selector></w:SelectorSet>",
                escaped(shell)
            )
        });
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:rsp=\"{SHELL}\"><s:Header>\
             <a:To>{to}</a:To><w:ResourceURI s:mustUnderstand=\"true\">{SHELL}/cmd</w:ResourceURI>\
             <a:ReplyTo><a:Address s:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous\
             </a:Address></a:ReplyTo><a:Action s:mustUnderstand=\"true\">{action}</a:Action>\
             <w:MaxEnvelopeSize s:mustUnderstand=\"true\">153600</w:MaxEnvelopeSize><a:MessageID>uuid:{id}</a:MessageID>\
             <w:OperationTimeout>PT{seconds}S</w:OperationTimeout>{selectors}{options}</s:Header><s:Body>{body}</s:Body></s:Envelope>",
            to = escaped(&self.to),
            seconds = hold.as_secs(),
        )
    }

    /// Opens a shell with these variables.
    pub(crate) fn create(&self, variables: &BTreeMap<String, String>, directory: Option<&str>) -> String {
        let mut body = "<rsp:Shell>".to_owned();
        if let Some(directory) = directory {
            let _ = write!(body, "<rsp:WorkingDirectory>{}</rsp:WorkingDirectory>", escaped(directory));
        }
        body.push_str("<rsp:Environment>");
        for (name, value) in variables {
            let _ = write!(body, "<rsp:Variable Name=\"{name}\">{}</rsp:Variable>", escaped(value));
        }
        body.push_str(
            "</rsp:Environment><rsp:InputStreams>stdin</rsp:InputStreams>\
             <rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>",
        );
        // Text in UTF-8, and no profile of the user.
        let options = "<w:OptionSet><w:Option Name=\"WINRS_NOPROFILE\">TRUE</w:Option>\
                       <w:Option Name=\"WINRS_CODEPAGE\">65001</w:Option></w:OptionSet>";
        self.wrap(&format!("{TRANSFER}/Create"), None, options, Duration::from_secs(60), &body)
    }

    /// Starts PowerShell with an encoded command.
    pub(crate) fn command(&self, shell: &str, encoded: &str) -> String {
        let body = format!(
            "<rsp:CommandLine><rsp:Command>powershell.exe</rsp:Command><rsp:Arguments>\
             -NoProfile -NonInteractive -ExecutionPolicy Bypass -OutputFormat Text -EncodedCommand {encoded}\
             </rsp:Arguments></rsp:CommandLine>"
        );
        let options = "<w:OptionSet><w:Option Name=\"WINRS_CONSOLEMODE_STDIN\">TRUE</w:Option>\
                       <w:Option Name=\"WINRS_SKIP_CMD_SHELL\">TRUE</w:Option></w:OptionSet>";
        self.wrap(&format!("{SHELL}/Command"), Some(shell), options, Duration::from_secs(60), &body)
    }

    /// Asks for what it has written.
    pub(crate) fn receive(&self, shell: &str, command: &str, hold: Duration) -> String {
        let body = format!(
            "<rsp:Receive><rsp:DesiredStream CommandId=\"{}\">stdout stderr</rsp:DesiredStream></rsp:Receive>",
            escaped(command)
        );
        self.wrap(&format!("{SHELL}/Receive"), Some(shell), "", hold, &body)
    }

    /// Closes the shell, and ends what runs in it.
    pub(crate) fn delete(&self, shell: &str) -> String {
        self.wrap(&format!("{TRANSFER}/Delete"), Some(shell), "", Duration::from_secs(60), "")
    }
}

/// A text as XML can hold it: a character that XML has no way to write becomes U+FFFD, a line break a reference, which no
/// reader turns into another one.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_become_markup() {
        fn check(text: &str, expect: &str) {
            assert_eq!(escaped(text), expect);
        }
        check("</rsp:Variable><x a=\"&amp;\">", "&lt;/rsp:Variable&gt;&lt;x a=&quot;&amp;amp;&quot;&gt;");
        check("a\r\nb\u{0}", "a&#13;&#10;b\u{fffd}");
    }
}
