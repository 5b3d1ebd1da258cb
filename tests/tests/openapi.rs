//! `openapi/signer-api.yaml` against the server, both ways: every route, status and example in it is
//! served as written, and nothing else is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use tests::{
    cluster::{Cluster, Options},
    http::Answer,
    process::eventually,
    vectors::hex32,
};

const SIGN: &str = "/api/v1/eth2/sign/{identifier}";
const METHODS: [&str; 6] = ["get", "post", "put", "delete", "patch", "head"];

fn document() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/signer-api.yaml");
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Statuses that are documented for a route.
fn statuses(operation: &Value) -> BTreeSet<u16> {
    operation["responses"]
        .as_object()
        .unwrap()
        .keys()
        .map(|s| s.parse().unwrap())
        .collect()
}

/// The one answer of a request example: the response example of the same name.
fn answer_of<'a>(operation: &'a Value, name: &str) -> (u16, &'a Value) {
    let mut found = Vec::new();
    for (status, response) in operation["responses"].as_object().unwrap() {
        let example = &response["content"]["application/json; charset=utf-8"]["examples"][name];
        if let Some(value) = example.get("value") {
            found.push((status.parse().unwrap(), value));
        }
    }
    assert_eq!(found.len(), 1, "{name} must have exactly one answer");
    found[0]
}

/// Whether a body has the members of a documented error, each of the same JSON type.
fn same_shape(name: &str, documented: &Value, answer: &Answer) {
    let body = answer.json();
    assert_eq!(body["code"], documented["code"], "{name}: {body}");
    assert_eq!(body["code"], answer.status, "{name}: {body}");
    let members = |value: &Value| -> BTreeMap<String, bool> {
        let object = value.as_object().unwrap();
        object
            .iter()
            .map(|(key, value)| (key.clone(), value.is_string()))
            .collect()
    };
    assert_eq!(members(&body), members(documented), "{name}");
    if let Some(error) = body.get("error") {
        assert_eq!(error, &body["message"], "{name}: {body}");
    }
}

/// Keeps what was seen of every route, to be compared with the document at the end.
#[derive(Default)]
struct Seen(BTreeMap<(String, String), BTreeSet<u16>>);

impl Seen {
    fn note(&mut self, method: &str, path: &str, document: &Value, answer: &Answer) {
        let operation = &document["paths"][path][method];
        let response = &operation["responses"][answer.status.to_string()];
        assert!(
            !response.is_null(),
            "{method} {path} is not documented to answer {answer:?}"
        );
        let types = response["content"].as_object().unwrap();
        assert!(
            types.contains_key(&answer.content_type),
            "{method} {path}: {answer:?}"
        );
        self.0
            .entry((method.to_owned(), path.to_owned()))
            .or_default()
            .insert(answer.status);
    }
}

async fn request(cluster: &Cluster, method: &str, path: &str, body: &str) -> Answer {
    let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let url = format!("{}{path}", cluster.url(0));
    let request = reqwest::Client::new()
        .request(method, url)
        .body(body.to_owned());
    Answer::of(request.send().await.unwrap()).await
}

/// A path that stands for a template.
fn concrete(path: &str, document: &Value) -> String {
    let identifier = document["paths"][SIGN]["post"]["parameters"]
        .as_array()
        .or(document["paths"][SIGN]["parameters"].as_array())
        .unwrap()[0]["example"]
        .as_str()
        .unwrap()
        .to_owned();
    path.replace("{identifier}", &identifier)
}

async fn check_examples(cluster: &Cluster, document: &Value, seen: &mut Seen) {
    let operation = &document["paths"][SIGN]["post"];
    let path = concrete(SIGN, document);
    let examples = &operation["requestBody"]["content"]["application/json"]["examples"];
    let examples = examples.as_object().unwrap();
    assert!(examples.len() >= 30, "only {} examples", examples.len());
    for (name, example) in examples {
        let body = example["value"].to_string();
        let answer = cluster
            .post(0, &path, Some("application/json"), body.clone())
            .await;
        let (status, documented) = answer_of(operation, name);
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        seen.note("post", SIGN, document, &answer);
        if status == 200 {
            assert_eq!(answer.json(), *documented, "{name}");
            let text = cluster.post(0, &path, None, body).await;
            assert_eq!(
                documented["signature"],
                text.body.as_str(),
                "{name} as text"
            );
            seen.note("post", SIGN, document, &text);
        } else {
            same_shape(name, documented, &answer);
        }
    }
    let responses = operation["responses"].as_object().unwrap();
    for (status, response) in responses.iter().filter(|(status, _)| *status == "200") {
        let json = &response["content"]["application/json; charset=utf-8"]["examples"];
        for name in json.as_object().unwrap().keys() {
            assert!(
                examples.contains_key(name),
                "{status} {name} answers no request"
            );
        }
    }
}

/// What is checked before routing, and what every route refuses: no `Host`, another one, an `Origin`,
/// and too long a body.
async fn check_refusals(cluster: &Cluster, document: &Value, seen: &mut Seen) {
    let http = reqwest::Client::new();
    let address = cluster.url(0).replace("http://", "");
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = concrete(template, document);
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            let verb = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = || http.request(verb.clone(), format!("{}{path}", cluster.url(0)));
            let long = vec![b' '; 10 * 1024 * 1024 + 1];
            for (status, request) in [
                (403, request().header("origin", "http://page.example")),
                (403, request().header("host", "elsewhere.example")),
                (413, request().body(long)),
            ] {
                let answer = Answer::of(request.send().await.unwrap()).await;
                assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
                seen.note(method, template, document, &answer);
            }
            if item[*method]["responses"].get("406").is_some() {
                let answer = request()
                    .header("accept", "image/png")
                    .send()
                    .await
                    .unwrap();
                let answer = Answer::of(answer).await;
                assert_eq!(answer.status, 406, "{method} {path}: {answer:?}");
                seen.note(method, template, document, &answer);
            }
            let head = format!("{verb} {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
            let answer = tests::http::raw(&address, head.as_bytes()).await;
            assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
            seen.note(method, template, document, &answer);
        }
    }
}

async fn check_routes(cluster: &Cluster, document: &Value, seen: &mut Seen) {
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = concrete(template, document);
        let mut allowed: Vec<String> = Vec::new();
        for method in METHODS {
            if item.get(method).is_some() {
                allowed.push(method.to_uppercase());
                let answer = request(cluster, method, &path, "").await;
                seen.note(method, template, document, &answer);
            }
        }
        for method in METHODS.iter().filter(|method| item.get(**method).is_none()) {
            // Every GET is also a HEAD, as HTTP has it.
            if *method == "head" && item.get("get").is_some() {
                continue;
            }
            let answer = request(cluster, method, &path, "").await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (405, ""),
                "{method} {path}"
            );
            let allow = answer.headers["allow"].to_str().unwrap();
            let named: BTreeSet<&str> = allow
                .split(',')
                .map(str::trim)
                .filter(|method| *method != "HEAD")
                .collect();
            assert_eq!(
                named,
                allowed.iter().map(String::as_str).collect(),
                "{path}"
            );
        }
    }
    // The wire contract's other routes, and what lies around ours.
    for path in [
        "/",
        "/api/v1/eth2",
        "/api/v1/eth2/publicKeys/",
        "/api/v1/eth2/sign",
        "/api/v1/eth2/ext/sign/0x00",
        "/api/v1/eth1/publicKeys",
        "/eth/v1/keystores",
        "/signer/v1/get_pubkeys",
        "/metrics",
    ] {
        assert!(
            document["paths"].get(path).is_none(),
            "{path} is documented"
        );
        for method in ["get", "post"] {
            let answer = request(cluster, method, path, "").await;
            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            assert_eq!(answer.json()["code"], 404);
        }
    }
}

/// The statuses that no example gives: unknown key, too large, too few cosigners, and the high
/// watermark, the health check and reload in their other states.
async fn check_rare_statuses(cluster: &mut Cluster, document: &Value, seen: &mut Seen) {
    let operation = &document["paths"][SIGN]["post"];
    let documented = |status: &str| {
        let content = &operation["responses"][status]["content"];
        let examples = &content["application/json; charset=utf-8"]["examples"];
        examples.as_object().unwrap().values().next().unwrap()["value"].clone()
    };
    let path = concrete(SIGN, document);
    let body = operation["requestBody"]["content"]["application/json"]["examples"]["RANDAO_REVEAL"]
        ["value"]
        .clone();
    let unknown = format!("/api/v1/eth2/sign/0x{}", "ab".repeat(48));
    let answer = cluster.post(0, &unknown, None, body.to_string()).await;
    same_shape("404", &documented("404"), &answer);
    seen.note("post", SIGN, document, &answer);
    let answer = cluster
        .post(0, &path, None, vec![b' '; 10 * 1024 * 1024 + 1])
        .await;
    same_shape("413", &documented("413"), &answer);
    seen.note("post", SIGN, document, &answer);

    for _ in 0..50 {
        let answers =
            futures_util::future::join_all((0..4).map(|_| request(cluster, "post", "/reload", "")))
                .await;
        for answer in &answers {
            seen.note("post", "/reload", document, answer);
        }
        if answers.iter().any(|answer| answer.status == 409) {
            break;
        }
    }
    for number in [1, 2] {
        cluster.cosigner(number).kill();
    }
    let mut later = body.clone();
    later.as_object_mut().unwrap().remove("signingRoot");
    later["randao_reveal"]["epoch"] = "421877".into();
    let answer = cluster.post(0, &path, None, later.to_string()).await;
    same_shape("500", &documented("500"), &answer);
    seen.note("post", SIGN, document, &answer);
    // The two that are left have no such order; whether there is a height depends on the others.
    let watermark = "/api/v1/eth2/highWatermark";
    let answer = request(cluster, "get", watermark, "").await;
    let unanswered = &document["paths"][watermark]["get"]["responses"]["500"]["content"];
    let examples = &unanswered["application/json; charset=utf-8"]["examples"];
    same_shape("500", &examples["unreachable"]["value"], &answer);
    seen.note("get", watermark, document, &answer);
    eventually(
        "the health check says DOWN",
        std::time::Duration::from_secs(20),
        || async { cluster.get(0, "/healthcheck").await.status == 503 },
    )
    .await;
    let answer = cluster.get(0, "/healthcheck").await;
    assert_eq!(
        (&answer.json()["status"], &answer.json()["outcome"]),
        (&"DOWN".into(), &"DOWN".into())
    );
    seen.note("get", "/healthcheck", document, &answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_exactly_what_is_served() {
    let document = document();
    let key = "0x2534367165c8fe40faaa0808e86c014e93f64ddde9d0bad339eee963c197f138";
    let mut cluster = Cluster::start(Options::new(vec![hex32(key)])).await;
    let mut seen = Seen::default();
    check_examples(&cluster, &document, &mut seen).await;
    check_routes(&cluster, &document, &mut seen).await;
    check_refusals(&cluster, &document, &mut seen).await;
    check_rare_statuses(&mut cluster, &document, &mut seen).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            let key = ((*method).to_owned(), path.clone());
            assert_eq!(
                seen.0.get(&key),
                Some(&statuses(&item[*method])),
                "{method} {path}"
            );
        }
    }
}
