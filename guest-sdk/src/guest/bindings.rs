//! Bindings generated from `wit/`. A component imports only those interfaces of `imports` that its code calls; the exports come
//! into being in the step's own crate, by the attribute.

/// Everything that a component may import beside what the standard library does.
pub(crate) mod imports {
    wit_bindgen::generate!({
        path: ["../wit", "../wit/step", "../wit/exec", "../wit/ssh", "../wit/tcp", "../wit/secrets", "../wit/files"],
        inline: "
            package remit:sdk;

            world imports {
                import remit:step/log@0.1.0;
                import remit:step/context@0.1.0;
                import remit:step/nodes@0.1.0;
                import remit:exec/run@0.1.1;
                import remit:ssh/run@0.1.1;
                import remit:tcp/connect@0.1.0;
                import remit:secrets/reveal@0.1.0;
                import remit:files/named@0.1.1;
                import remit:files/artifacts@0.1.1;
                import wasi:http/outgoing-handler@0.2.12;
            }
        ",
        world: "remit:sdk/imports",
        generate_all,
    });
}

/// The exports of a step.
#[expect(missing_docs, reason = "generated, and documented in `wit/step`")]
pub mod step_world {
    wit_bindgen::generate!({
        path: "../wit/step",
        world: "remit:step/step",
        with: {
            "remit:step/types@0.1.0": crate::guest::bindings::imports::remit::step::types,
            "remit:step/log@0.1.0": crate::guest::bindings::imports::remit::step::log,
            "remit:step/context@0.1.0": crate::guest::bindings::imports::remit::step::context,
        },
        pub_export_macro: true,
        export_macro_name: "export_step",
    });
}

/// The exports of a node source.
#[expect(missing_docs, reason = "generated, and documented in `wit/step`")]
pub mod node_source_world {
    wit_bindgen::generate!({
        path: "../wit/step",
        world: "remit:step/node-source",
        with: {
            "remit:step/types@0.1.0": crate::guest::bindings::imports::remit::step::types,
            "remit:step/log@0.1.0": crate::guest::bindings::imports::remit::step::log,
            "remit:step/context@0.1.0": crate::guest::bindings::imports::remit::step::context,
            "remit:step/nodes@0.1.0": crate::guest::bindings::imports::remit::step::nodes,
        },
        pub_export_macro: true,
        export_macro_name: "export_node_source",
    });
}
