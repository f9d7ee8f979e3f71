#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Span, http, log, step};
use remit_sdk_kubernetes::{Cluster, Object, Resource, Rollout, rollout, send};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Objects and the cluster that gets them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The API server's address.
    pub url: String,
    /// The namespace of objects that name none.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The objects, in the order in which they are applied.
    #[schemars(length(min = 1, max = 200))]
    pub objects: Vec<Value>,
    /// Whether fields are taken over that somebody else has set.
    #[serde(default)]
    pub force: bool,
    /// Whether the cluster only checks them.
    #[serde(default)]
    pub dry_run: bool,
    /// How long is waited until the pods of all of them run; left out: it is not waited for.
    pub wait: Option<Span>,
}

/// What was applied.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// In the order of the input.
    pub objects: Vec<Applied>,
}

/// One object.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Applied {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; null where its kind has none.
    pub namespace: Option<String>,
    /// Whether it is new.
    pub created: bool,
}

/// Who the cluster says has set the fields.
const MANAGER: &str = "remit";
const MAX_OBJECTS: usize = 200;
const EVERY: Span = Span::seconds(2);

fn default_namespace() -> String {
    "default".to_owned()
}

/// Applies the objects.
#[step]
pub fn kubernetes_apply(input: Input, context: &Context) -> Result<Output, Fail> {
    let cluster = Cluster::new(&input.url)?;
    if input.objects.is_empty() || input.objects.len() > MAX_OBJECTS {
        return Err(Fail::new(format!(
            "`objects` holds {} objects: 1 to {MAX_OBJECTS} are taken",
            input.objects.len()
        )));
    }
    // All are looked at before the first one is applied.
    let mut planned: Vec<(Object, Resource)> = Vec::new();
    for (at, value) in input.objects.iter().enumerate() {
        let object = Object::new(value.clone())
            .map_err(|error| Fail::new(error.to_string()).while_doing(format_args!("objects[{at}]")))?;
        let same = |(own, _): &&(Object, Resource)| {
            (own.api_version(), own.kind()) == (object.api_version(), object.kind())
        };
        let resource = match planned.iter().find(same) {
            Some((_, resource)) => resource.clone(),
            None => cluster
                .resource(object.api_version(), object.kind())
                .map_err(|fail| fail.while_doing(format_args!("objects[{at}]")))?,
        };
        planned.push((object, resource));
    }
    let mut objects = Vec::with_capacity(planned.len());
    for (object, resource) in &planned {
        context.check_cancelled()?;
        objects.push(apply(&cluster, object, resource, &input).map_err(|fail| fail.while_doing(object))?);
        context.progress(objects.len(), planned.len());
    }
    if let (Some(wait), false) = (input.wait, input.dry_run) {
        for (object, resource) in &planned {
            wait_for(&cluster, object, resource, &input.namespace, wait, context)
                .map_err(|fail| fail.while_doing(object))?;
        }
    }
    Ok(Output { objects })
}

fn namespace<'a>(object: &'a Object, resource: &Resource, otherwise: &'a str) -> Option<&'a str> {
    resource.namespaced.then(|| object.namespace().unwrap_or(otherwise))
}

fn apply(cluster: &Cluster, object: &Object, resource: &Resource, input: &Input) -> Result<Applied, Fail> {
    let namespace = namespace(object, resource, &input.namespace);
    let mut url = cluster
        .address(resource, namespace, &[object.name()])
        .query("fieldManager", MANAGER)
        .query("fieldValidation", "Strict");
    if input.force {
        url = url.query("force", true);
    }
    if input.dry_run {
        url = url.query("dryRun", "All");
    }
    // JSON is YAML: the server's own type for this kind of patch.
    let body = serde_json::to_vec(object.value())?;
    let answer = send(http::patch(url).header("content-type", "application/apply-patch+yaml").body(body))?;
    let created = answer.status() == 201;
    log::info!("applied", kind = object.kind(), name = object.name(), created = created);
    Ok(Applied {
        kind: object.kind().to_owned(),
        name: object.name().to_owned(),
        namespace: namespace.map(str::to_owned),
        created,
    })
}

fn wait_for(
    cluster: &Cluster,
    object: &Object,
    resource: &Resource,
    otherwise: &str,
    wait: Span,
    context: &Context,
) -> Result<(), Fail> {
    let url = cluster.address(resource, namespace(object, resource, otherwise), &[object.name()]);
    let mut last = String::new();
    let done = context.poll(EVERY, wait, || {
        let now: Value = send(http::get(&url))?.json()?;
        match rollout(&now) {
            Rollout::Done | Rollout::Nothing => Ok(Some(())),
            Rollout::Waiting(why) => {
                if why != last {
                    log::info!("not yet: {why}", name = object.name());
                    last = why;
                }
                Ok(None)
            }
        }
    })?;
    done.ok_or_else(|| Fail::new(format!("it does not run within {wait}: {last}")))
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};
    use serde_json::json;

    use super::*;

    const URL: &str = "https://k8s.example:6443";

    fn at(path: &str) -> String {
        format!("{URL}{path}")
    }

    fn apps() -> Answer {
        Answer::json(
            &json!({"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": true}]}),
        )
    }

    fn core() -> Answer {
        Answer::json(
            &json!({"resources": [{"name": "namespaces", "kind": "Namespace", "namespaced": false}]}),
        )
    }

    fn web() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2}})
    }

    const QUERY: &str = "fieldManager=remit&fieldValidation=Strict";

    #[test]
    fn objects_are_applied_in_order_and_waited_for() {
        let status = |updated: u32| {
            Answer::json(&json!({"kind": "Deployment", "spec": {"replicas": 2}, "status": {
                "updatedReplicas": updated, "availableReplicas": updated, "replicas": 2}}))
        };
        let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
        let web_at = at("/apis/apps/v1/namespaces/shop/deployments/web");
        let run = Fake::new()
            .http("GET", &at("/api/v1"), core())
            .http("GET", &at("/apis/apps/v1"), apps())
            .http("PATCH", &at(&format!("/api/v1/namespaces/shop?{QUERY}")), Answer::status(201).body("{}"))
            .http("PATCH", &format!("{web_at}?{QUERY}"), Answer::status(200).body("{}"))
            .http("GET", &at("/api/v1/namespaces/shop"), Answer::json(&shop))
            .http("GET", &web_at, status(1))
            .http("GET", &web_at, status(2))
            .call(
                kubernetes_apply,
                &json!({"url": URL, "namespace": "shop", "objects": [shop, web()], "wait": "30s"}),
            );
        assert_eq!(
            run.result.unwrap(),
            json!({"objects": [
                {"kind": "Namespace", "name": "shop", "namespace": null, "created": true},
                {"kind": "Deployment", "name": "web", "namespace": "shop", "created": false},
            ]})
        );
        let sent =
            run.requests.iter().find(|sent| sent.method == "PATCH" && sent.url.contains("web")).unwrap();
        assert_eq!((sent.header("content-type"), sent.json()), (Some("application/apply-patch+yaml"), web()));
        assert_eq!(run.slept.as_secs(), 2);
    }

    #[test]
    fn what_the_cluster_refuses_is_said() {
        let conflict = json!({"kind": "Status", "reason": "Conflict", "message": "conflict with \"kubectl\": .spec.replicas"});
        let url = at(&format!("/apis/apps/v1/namespaces/default/deployments/web?{QUERY}&dryRun=All"));
        let found = Fake::new()
            .http("GET", &at("/apis/apps/v1"), apps())
            .http("PATCH", &url, Answer::status(409).body(conflict.to_string()))
            .call(kubernetes_apply, &json!({"url": URL, "objects": [web()], "dry_run": true}));
        assert_eq!(
            found.result.unwrap_err().message(),
            "Deployment web: the cluster refuses: conflict with \"kubectl\": .spec.replicas (Conflict)"
        );
        fn check(input: Value, fake: Fake, message: &str) {
            let found = fake.call(kubernetes_apply, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(json!({"url": URL, "objects": []}), Fake::new(), "`objects` holds 0 objects");
        check(
            json!({"url": URL, "objects": [{}]}),
            Fake::new(),
            "objects[0]: the object has no `apiVersion`",
        );
        check(
            json!({"url": URL, "objects": [{"apiVersion": "apps/v1", "kind": "Widget", "metadata": {"name": "w"}}]}),
            Fake::new().http("GET", &at("/apis/apps/v1"), apps()),
            "objects[0]: the server knows no Widget in apps/v1",
        );
    }
}
