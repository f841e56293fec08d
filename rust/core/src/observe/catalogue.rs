//! The metrics that are one number per worker, by name. Series with labels live in `table`.
//!
//! To add one: a line in `counters!` or `gauges!`. Readers (OTLP, `/metrics`, docs) take it from here.

macro_rules! catalogue {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $name:literal $(, $key:literal = $value:literal)?; $unit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $type { $($variant),* }

        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$variant),*];
            /// OpenTelemetry name.
            pub const fn name(self) -> &'static str { match self { $($type::$variant => $name),* } }
            /// The one attribute that tells this number from others of the same name, if any.
            pub const fn attribute(self) -> Option<(&'static str, &'static str)> {
                match self { $($type::$variant => catalogue!(@attribute $($key, $value)?)),* }
            }
            /// UCUM unit.
            pub const fn unit(self) -> &'static str { match self { $($type::$variant => $unit),* } }
            pub const fn description(self) -> &'static str { match self { $($type::$variant => $text),* } }
        }
    };
    (@attribute) => { None };
    (@attribute $key:literal, $value:literal) => { Some(($key, $value)) };
}

catalogue! {
    /// Numbers that only grow, over restarts of a worker too.
    Counter {
        ConnectionsAccepted = "pygate.connections.accepted"; "{connection}", "Client connections accepted.";
        ConnectionsRefused = "pygate.connections.refused"; "{connection}", "Client connections closed at once because the worker was at its cap.";
        ParseErrors = "pygate.requests.malformed"; "{request}", "Requests that broke HTTP and were answered 400 without being forwarded.";
        ConnectionsUnrouted = "pygate.tcp.unrouted"; "{connection}", "Connections of TCP entrypoints that no route took.";
        TcpConnections = "pygate.tcp.connections"; "{connection}", "Connections of TCP routes that have ended.";
        TcpReceived = "pygate.tcp.io", "network.io.direction" = "receive"; "By", "Bytes of TCP routes, from and to clients.";
        TcpSent = "pygate.tcp.io", "network.io.direction" = "transmit"; "By", "Bytes of TCP routes, from and to clients.";
        FloodsStopped = "pygate.http2.floods"; "{connection}", "HTTP/2 connections ended because their peer flooded them.";
        WebSocketReceived = "pygate.websocket.messages", "network.io.direction" = "receive"; "{message}", "WebSocket messages of routes that read them, from and to clients.";
        WebSocketSent = "pygate.websocket.messages", "network.io.direction" = "transmit"; "{message}", "WebSocket messages of routes that read them, from and to clients.";
        WebSocketBytesReceived = "pygate.websocket.io", "network.io.direction" = "receive"; "By", "Bytes of these messages, decompressed.";
        WebSocketBytesSent = "pygate.websocket.io", "network.io.direction" = "transmit"; "By", "Bytes of these messages, decompressed.";
        TlsFull = "pygate.tls.handshakes", "pygate.tls.result" = "full"; "{handshake}", "TLS handshakes with clients by how they ended.";
        TlsResumed = "pygate.tls.handshakes", "pygate.tls.result" = "resumed"; "{handshake}", "TLS handshakes with clients by how they ended.";
        TlsFailed = "pygate.tls.handshakes", "pygate.tls.result" = "failed"; "{handshake}", "TLS handshakes with clients by how they ended.";
        UpstreamConnects = "pygate.upstream.connections.opened"; "{connection}", "Connections opened to upstreams.";
        UpstreamConnectErrors = "pygate.upstream.connections.failed"; "{connection}", "Connections to upstreams that could not be opened.";
        PoolReuse = "pygate.upstream.connections.reused"; "{request}", "Requests sent over a pooled upstream connection.";
        Retries = "pygate.upstream.retries"; "{request}", "Upstream attempts after the first.";
        RetriesDenied = "pygate.upstream.retries.denied"; "{request}", "Retries not made because the retry budget was used up.";
        Ejections = "pygate.upstream.ejections"; "{endpoint}", "Endpoints taken out by outlier detection.";
        TimeoutHandshake = "pygate.timeouts", "pygate.phase" = "handshake"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutHead = "pygate.timeouts", "pygate.phase" = "head"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutBody = "pygate.timeouts", "pygate.phase" = "body"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutConnect = "pygate.timeouts", "pygate.phase" = "connect"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutFirstByte = "pygate.timeouts", "pygate.phase" = "first-byte"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutUpstreamBody = "pygate.timeouts", "pygate.phase" = "upstream-body"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutTotal = "pygate.timeouts", "pygate.phase" = "total"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutIdle = "pygate.timeouts", "pygate.phase" = "idle"; "{timeout}", "Deadlines that ran out, by phase.";
        TimeoutDrain = "pygate.timeouts", "pygate.phase" = "drain"; "{timeout}", "Deadlines that ran out, by phase.";
        GuardAllow = "pygate.guard.findings", "pygate.guard.action" = "allow"; "{finding}", "Guardrail findings by what was done.";
        GuardTag = "pygate.guard.findings", "pygate.guard.action" = "tag"; "{finding}", "Guardrail findings by what was done.";
        GuardMask = "pygate.guard.findings", "pygate.guard.action" = "mask"; "{finding}", "Guardrail findings by what was done.";
        GuardTokenize = "pygate.guard.findings", "pygate.guard.action" = "tokenize"; "{finding}", "Guardrail findings by what was done.";
        GuardBlock = "pygate.guard.findings", "pygate.guard.action" = "block"; "{finding}", "Guardrail findings by what was done.";
        GuardShadow = "pygate.guard.findings", "pygate.guard.action" = "shadow"; "{finding}", "Guardrail findings by what was done.";
        GuardUnjudged = "pygate.guard.unjudged"; "{body}", "Bodies that could not be judged (size, encoding, engine).";
        AuditRecords = "pygate.audit.records"; "{record}", "Audit records handed to the write-ahead log.";
        AuditBytes = "pygate.audit.written"; "By", "Bytes of audit records.";
        AuditFailed = "pygate.audit.failed"; "{record}", "Audit records that could not be made durable.";
        TelemetryDropped = "pygate.telemetry.dropped", "pygate.signal" = "worker"; "{record}", "Telemetry that was given up, by where.";
        PluginCalls = "pygate.plugin.calls"; "{call}", "Calls of plugin hooks.";
        PluginFailures = "pygate.plugin.failures"; "{call}", "Plugin hooks that raised or exceeded their budget.";
        CallbackPanics = "pygate.worker.panics"; "{panic}", "Panics and exceptions caught at the event loop's door: defects.";
    }
}

catalogue! {
    /// Numbers that rise and fall; zeroed when a worker starts.
    Gauge {
        ConnectionsOpen = "pygate.connections.open"; "{connection}", "Client connections open now.";
        UpstreamOpen = "pygate.upstream.connections.open", "pygate.state" = "used"; "{connection}", "Upstream connections open now.";
        UpstreamIdle = "pygate.upstream.connections.open", "pygate.state" = "idle"; "{connection}", "Upstream connections open now.";
        Paused = "pygate.connections.paused"; "{connection}", "Connections not being read because the other side is slow.";
        Revisions = "pygate.worker.revisions"; "{revision}", "Configurations held: the one in force and those still serving requests.";
    }
}
