"""Requests over `wasi:http`."""

from componentize_py_types import Err, Ok
from wit_world.imports import wasi_http_outgoing_handler_0_2_12 as handler
from wit_world.imports import wasi_http_types_0_2_12 as types
from wit_world.imports import wasi_io_streams_0_2_12 as streams

from ._fail import Denied, Failed, OverLimit

#: Most bytes of one read.
READ = 64 * 1024
#: The most that the interface takes in one blocking write.
WRITE = 4096

METHODS = {
    "GET": types.Method_Get, "HEAD": types.Method_Head, "POST": types.Method_Post, "PUT": types.Method_Put,
    "DELETE": types.Method_Delete, "OPTIONS": types.Method_Options, "PATCH": types.Method_Patch,
}
DENIED = {
    types.ErrorCode_HttpRequestDenied: "this request",
    types.ErrorCode_DestinationIpProhibited: "the address that the name leads to",
}
LIMITS = {
    types.ErrorCode_ConnectionLimitReached: "requests",
    types.ErrorCode_HttpRequestBodySize: "egress",
    types.ErrorCode_HttpResponseBodySize: "ingress",
}


def refusal(code):
    """An error of the interface, in the SDK's words."""
    kind = type(code)
    if kind in DENIED:
        return Denied(DENIED[kind])
    if kind in LIMITS:
        return OverLimit(LIMITS[kind])
    if kind is types.ErrorCode_InternalError and code.value:
        return Failed(code.value)
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind.__name__.split("_")[-1])
    return Failed(f"the request did not work:{words}")


def send(method, scheme, authority, path, headers, body, timeout):
    """Sends a request; gives status, headers and the pieces of the body."""
    try:
        fields = types.Fields.from_list([(name, value.encode()) for name, value in headers])
    except Err as error:
        raise Failed(f"a header cannot be sent: {type(error.value).__name__.split('_')[-1]}") from None
    request = types.OutgoingRequest(fields)
    try:
        request.set_method(METHODS[method]() if method in METHODS else types.Method_Other(method))
        request.set_scheme(types.Scheme_Https() if scheme == "https" else types.Scheme_Http())
        request.set_authority(authority)
        request.set_path_with_query(path)
    except Err:
        raise Failed("the method or the address cannot be sent") from None
    outgoing = request.body()
    options = None
    if timeout is not None:
        options = types.RequestOptions()
        nanoseconds = max(1, round(timeout * 1_000_000_000))
        options.set_connect_timeout(nanoseconds)
        options.set_first_byte_timeout(nanoseconds)
        options.set_between_bytes_timeout(nanoseconds)
    try:
        future = handler.handle(request, options)
    except Err as error:
        raise refusal(error.value) from None
    # When the host denies the request, it closes the body: the answer says why, not the failed write.
    cut = write(outgoing, body)
    response = answer(future)
    if cut:
        raise Failed("the request was cut off")
    found = [(name, value.decode("utf-8", "replace")) for name, value in response.headers().entries()]
    return response.status(), found, pieces(response)


def write(outgoing, body):
    try:
        if body:
            with outgoing.write() as stream:
                for at in range(0, len(body), WRITE):
                    stream.blocking_write_and_flush(body[at : at + WRITE])
        types.OutgoingBody.finish(outgoing, None)
        return False
    except Err:
        return True


def answer(future):
    while (got := future.get()) is None:
        with future.subscribe() as pollable:
            pollable.block()
    if isinstance(got, Err):
        raise Failed("the answer was taken twice")
    if isinstance(got.value, Ok):
        return got.value.value
    raise refusal(got.value.value)


def pieces(response):
    # The one that is made last is dropped first: a stream belongs to its body, and that to its response.
    with response, response.consume() as body, body.stream() as stream:
        while True:
            try:
                piece = stream.blocking_read(READ)
            except Err as error:
                if isinstance(error.value, streams.StreamError_Closed):
                    return
                code = types.http_error_code(error.value.value)
                raise (refusal(code) if code else Failed("the answer was cut off")) from None
            if piece:
                yield piece
