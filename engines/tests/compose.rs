//! The file for people with containers has the engines of the table: all of them, in the same versions, where the documents
//! say.

use std::collections::BTreeMap;
use std::path::Path;

use engines::ENGINES;
use yaml_rust2::{Yaml, YamlLoader};

fn services() -> BTreeMap<String, Yaml> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose.infra.yaml");
    let read = YamlLoader::load_from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let services = read[0]["services"].as_hash().expect("there are services");
    services.iter().map(|(name, service)| (name.as_str().unwrap().to_owned(), merged(service))).collect()
}

/// What `<<:` brings along counts, unless the service says otherwise.
fn merged(service: &Yaml) -> Yaml {
    let mut all = service.as_hash().expect("a service is a mapping").clone();
    if let Some(under) = all.remove(&Yaml::String("<<".into())) {
        for (key, value) in under.as_hash().expect("what is merged is a mapping") {
            all.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Yaml::Hash(all)
}

#[test]
fn the_compose_file_has_every_engine_of_the_table_and_no_other() {
    let mut wanted: Vec<&str> = ENGINES.iter().flat_map(|e| e.nodes).copied().collect();
    wanted.sort_unstable();
    assert_eq!(services().keys().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[test]
fn the_compose_file_has_the_versions_of_the_table() {
    let services = services();
    for engine in ENGINES {
        for node in engine.nodes {
            assert_eq!(services[*node]["image"].as_str(), Some(engine.image), "{node}");
        }
    }
}

#[test]
fn containers_listen_on_this_machine_alone_and_at_the_usual_ports() {
    let services = services();
    for (name, service) in &services {
        for port in service["ports"].as_vec().expect("every engine is reached by a port") {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port:?}");
        }
    }
    for (name, port) in [
        ("postgres", "5432"),
        ("pgbouncer", "6432"),
        ("redis", "6379"),
        ("kafka", "9092"),
        ("consul", "8500"),
        ("etcd", "2379"),
        ("jaeger", "4318"),
        ("prometheus", "9090"),
        ("alertmanager", "9093"),
    ] {
        let first = services[name]["ports"][0].as_str().unwrap();
        assert_eq!(first.split(':').nth(1), Some(port), "{name}");
    }
}
