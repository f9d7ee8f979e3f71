//! A component that calls over HTTP, and says exactly what it wants to say.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/step"],
        inline: "
            package guest:http;
            world guest {
                include remit:step/step@0.1.0;
                import wasi:http/outgoing-handler@0.2.12;
            }
        ",
        world: "guest:http/guest",
        generate_all,
    });
}

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::step::types::Failure,
    wasi::{
        http::{
            outgoing_handler,
            types::{
                ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
                RequestOptions, Scheme,
            },
        },
        io::streams::StreamError,
    },
};

struct Http;
bindings::export!(Http with_types_in bindings);

impl Guest for Http {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    /// `METHOD SCHEME AUTHORITY PATH`, then any of `NAME=VALUE` (a header), `body:TEXT`, `trailer:NAME=VALUE`, `many:COUNT`
    /// (so many headers), `patience:NANOSECONDS` (for each part of the exchange), `follow` (the place that a redirect names
    /// is called as well) and `timed:COUNT` (so many calls, one after the other). Gives the status and the body of the last
    /// answer; of timed calls the microseconds of the middle one.
    fn run(input: String) -> Result<String, End> {
        let words: Vec<&str> = input.trim_matches('"').split(' ').collect();
        let [method, scheme, authority, path, extras @ ..] = &words[..] else {
            return Err(failed("no such act"));
        };
        let wish = Wish { method, scheme, authority, path, extras };
        if let Some(count) = wish.extras("timed:").find_map(|count| count.parse().ok()) {
            return wish.timed(count);
        }
        let mut answer = wish.send()?;
        if extras.contains(&"follow")
            && let Some(place) = answer.location.clone()
        {
            let (scheme, rest) = place.split_once("://").unwrap_or((*scheme, &place));
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = format!("/{path}");
            answer = Wish { method, scheme, authority, path: &path, extras: &[] }.send()?;
        }
        Ok(format!("{:?}", format!("{} {}", answer.status, answer.body)))
    }
}

fn failed(message: &str) -> End {
    End::Failed(Failure { message: message.to_owned(), fields: Vec::new() })
}

fn refused(code: ErrorCode) -> End {
    failed(&format!("{code:?}"))
}

struct Wish<'a> {
    method: &'a str,
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    extras: &'a [&'a str],
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

impl Wish<'_> {
    fn extras(&self, prefix: &'static str) -> impl Iterator<Item = &str> {
        self.extras.iter().filter_map(move |extra| extra.strip_prefix(prefix))
    }

    fn headers(&self) -> Result<Fields, End> {
        let headers = Fields::new();
        let plain = self.extras.iter().filter(|extra| !extra.contains(':'));
        for (name, value) in plain.filter_map(|extra| extra.split_once('=')) {
            headers
                .append(name, value.as_bytes())
                .map_err(|error| failed(&format!("header {name}: {error:?}")))?;
        }
        for count in self.extras("many:").filter_map(|count| count.parse::<u32>().ok()) {
            for number in 0..count {
                let name = format!("x-{number}");
                headers.append(&name, b"x").map_err(|error| failed(&format!("header {name}: {error:?}")))?;
            }
        }
        Ok(headers)
    }

    fn patience(&self) -> Result<Option<RequestOptions>, End> {
        let Some(time) = self.extras("patience:").find_map(|time| time.parse().ok()) else { return Ok(None) };
        let options = RequestOptions::new();
        let unusable = |()| failed("the patience cannot be set");
        options.set_connect_timeout(Some(time)).map_err(unusable)?;
        options.set_first_byte_timeout(Some(time)).map_err(unusable)?;
        options.set_between_bytes_timeout(Some(time)).map_err(unusable)?;
        Ok(Some(options))
    }

    fn method(&self) -> Method {
        match self.method {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "CONNECT" => Method::Connect,
            "TRACE" => Method::Trace,
            other => Method::Other(other.to_owned()),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "measuring is what it is asked for")]
    fn timed(&self, count: usize) -> Result<String, End> {
        let mut times = Vec::new();
        for _ in 0..count {
            let begun = std::time::Instant::now();
            self.send()?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let middle = times.get(count / 2).copied().unwrap_or_default();
        Ok(format!("\"{:.2}\"", middle.as_secs_f64() * 1e6))
    }

    fn send(&self) -> Result<Answer, End> {
        let request = OutgoingRequest::new(self.headers()?);
        let scheme = match self.scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            other => Scheme::Other(other.to_owned()),
        };
        let unusable = |what: &'static str| move |()| failed(&format!("the {what} cannot be set"));
        request.set_method(&self.method()).map_err(unusable("method"))?;
        request.set_scheme(Some(&scheme)).map_err(unusable("scheme"))?;
        request.set_authority(Some(self.authority)).map_err(unusable("authority"))?;
        request.set_path_with_query(Some(self.path)).map_err(unusable("path"))?;
        let body = request.body().map_err(unusable("body"))?;
        let future = outgoing_handler::handle(request, self.patience()?).map_err(refused)?;
        // A denial closes the body: the answer says why, not the failed write.
        let written = self.write(body);
        let response = loop {
            match future.get() {
                Some(Ok(answer)) => break answer.map_err(refused)?,
                Some(Err(())) => return Err(failed("the answer was taken twice")),
                None => future.subscribe().block(),
            }
        };
        written?;
        read(response)
    }

    fn write(&self, body: OutgoingBody) -> Result<(), End> {
        for text in self.extras("body:") {
            let stream = body.write().map_err(|()| failed("the body was taken twice"))?;
            stream
                .blocking_write_and_flush(text.as_bytes())
                .map_err(|error| failed(&format!("{error:?}")))?;
        }
        let mut trailers = None;
        for (name, value) in self.extras("trailer:").filter_map(|extra| extra.split_once('=')) {
            let fields = trailers.get_or_insert_with(Fields::new);
            fields
                .append(name, value.as_bytes())
                .map_err(|error| failed(&format!("trailer {name}: {error:?}")))?;
        }
        OutgoingBody::finish(body, trailers).map_err(refused)
    }
}

fn read(response: IncomingResponse) -> Result<Answer, End> {
    let status = response.status();
    let location = response.headers().get("location").into_iter().next();
    let location = location.map(|value| String::from_utf8_lossy(&value).into_owned());
    let taken = |()| failed("the body was taken twice");
    let body = response.consume().map_err(taken)?;
    let mut bytes = Vec::new();
    let stream = body.stream().map_err(taken)?;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(failed(&error.to_debug_string())),
        }
    }
    drop(stream);
    IncomingBody::finish(body);
    Ok(Answer { status, location, body: String::from_utf8_lossy(&bytes).into_owned() })
}
