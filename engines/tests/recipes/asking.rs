//! One value written to and read from each engine, the way a client of that engine does it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engines::Fleet;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

const TRACE: &str = "5b8efff798038103d269b633813fc60c";
/// "fx" and "before" as etcd wants them.
const FX: &str = "Zng=";
const BEFORE: &str = "YmVmb3Jl";

pub(crate) struct World {
    pub(crate) fleet: Fleet,
    told: BTreeMap<&'static str, String>,
    http: reqwest::Client,
}

impl World {
    pub(crate) fn new(fleet: Fleet) -> Self {
        let told = fleet.variables().unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        Self { fleet, told, http }
    }

    /// Writes the value where a client of this engine would.
    pub(crate) async fn put(&self, name: &str, value: &str) {
        match name {
            "postgres" | "standby" | "pgbouncer" => {
                let insert =
                    format!("create table if not exists fx (n serial, v text); insert into fx (v) values ('{value}')");
                self.sql(name, &insert).await;
            }
            "redis" => {
                let _: () = redis::AsyncCommands::set(&mut self.redis().await, "fx", value).await.unwrap();
            }
            "etcd" => {
                assert_eq!(value, "before");
                self.post("FX_TEST_ETCD", "/v3/kv/put", &json!({ "key": FX, "value": BEFORE })).await;
            }
            "consul" => {
                let url = format!("{}/v1/kv/fx", self.told["FX_TEST_CONSUL"]);
                assert!(self.http.put(url).body(value.to_owned()).send().await.unwrap().status().is_success());
            }
            "kafka" | "kafka3" => self.produce(name, value).await,
            "jaeger" => {
                let span = json!({ "traceId": TRACE, "spanId": "eee19b7ec3c1b174", "name": value, "kind": 1,
                    "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000" });
                let service = json!({ "key": "service.name", "value": { "stringValue": "fx" } });
                let spans = json!({ "resourceSpans": [{ "resource": { "attributes": [service] },
                    "scopeSpans": [{ "spans": [span] }] }] });
                self.post("FX_TEST_JAEGER", "/v1/traces", &spans).await;
            }
            "prometheus" => self.scrape_itself().await,
            "alertmanager" => {
                let alert = json!([{ "labels": { "alertname": value } }]);
                self.post("FX_TEST_ALERTMANAGER", "/api/v2/alerts", &alert).await;
            }
            other => panic!("nobody writes to {other}"),
        }
    }

    /// Reads it back: the newest, if there is any.
    pub(crate) async fn get(&self, name: &str) -> Option<String> {
        match name {
            "postgres" | "standby" | "pgbouncer" => self.sql(name, "select v from fx order by n desc limit 1").await,
            "redis" => redis::AsyncCommands::get(&mut self.redis().await, "fx").await.unwrap(),
            "etcd" => {
                let found = self.post("FX_TEST_ETCD", "/v3/kv/range", &json!({ "key": FX })).await;
                (found["kvs"][0]["value"] == BEFORE).then(|| "before".to_owned())
            }
            "consul" => self.text("FX_TEST_CONSUL", "/v1/kv/fx?raw").await,
            "kafka" | "kafka3" => self.consume(name).await,
            "jaeger" => {
                let found = self.text("FX_TEST_JAEGER_QUERY", &format!("/api/v3/traces/{TRACE}")).await?;
                let found: Value = serde_json::from_str(&found).unwrap();
                let span = &found["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
                span["name"].as_str().map(str::to_owned)
            }
            "prometheus" => (self.scraped().await > 0.0).then(|| "before".to_owned()),
            "alertmanager" => {
                let found = self.text("FX_TEST_ALERTMANAGER", "/api/v2/alerts").await?;
                let found: Value = serde_json::from_str(&found).unwrap();
                found[0]["labels"]["alertname"].as_str().map(str::to_owned)
            }
            other => panic!("nobody reads from {other}"),
        }
    }

    /// Waits until it reads as wanted: a standby is a moment behind.
    pub(crate) async fn until(&self, name: &str, wanted: &str) {
        let began = Instant::now();
        while self.get(name).await.as_deref() != Some(wanted) {
            assert!(began.elapsed() < Duration::from_secs(20), "{name} never says {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn sql(&self, name: &str, statement: &str) -> Option<String> {
        let variable = format!("FX_TEST_{}", name.to_uppercase());
        let (client, connection) =
            tokio_postgres::connect(&self.told[variable.as_str()], tokio_postgres::NoTls).await.unwrap();
        let work = async {
            // A standby that has just begun may not have the table yet.
            let rows = client.simple_query(statement).await.unwrap_or_default();
            rows.iter().find_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
        };
        tokio::select! {
            found = work => found,
            ended = connection => panic!("{name} hung up: {ended:?}"),
        }
    }

    async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.told["FX_TEST_REDIS"].as_str()).unwrap();
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    async fn post(&self, variable: &str, path: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.told[variable])).json(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn text(&self, variable: &str, path: &str) -> Option<String> {
        let answer = self.http.get(format!("{}{path}", self.told[variable])).send().await.unwrap();
        if answer.status().is_success() { Some(answer.text().await.unwrap()) } else { None }
    }

    fn kafka(&self, name: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.told[if name == "kafka" { "FX_TEST_KAFKA" } else { "FX_TEST_KAFKA3" }]);
        config.set("socket.timeout.ms", "10000").set("group.id", "fx");
        config
    }

    async fn produce(&self, name: &str, value: &str) {
        let copies = if name == "kafka" { 1 } else { 3 };
        let admin: AdminClient<_> = self.kafka(name).create().unwrap();
        let topic = NewTopic::new("fx", 1, TopicReplication::Fixed(copies));
        let made =
            admin.create_topics(&[topic], &AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))).await;
        made.unwrap()[0].as_ref().unwrap();
        let producer: FutureProducer = self.kafka(name).set("acks", "all").create().unwrap();
        let record = FutureRecord::<str, str>::to("fx").payload(value);
        producer.send(record, Duration::from_secs(30)).await.unwrap();
    }

    async fn consume(&self, name: &str) -> Option<String> {
        let config = self.kafka(name);
        let read = move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut from = TopicPartitionList::new();
            from.add_partition_offset("fx", 0, Offset::Beginning).unwrap();
            consumer.assign(&from).unwrap();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(30) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
                    return message.payload().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
                }
            }
            None
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Lets Prometheus scrape itself until it has something, then no more: what is found later was kept.
    async fn scrape_itself(&self) {
        let card = &self.fleet.cards().unwrap()["prometheus"];
        let targets = card.folder.join("targets/self.json");
        std::fs::write(&targets, json!([{ "targets": [card.addresses["http"]] }]).to_string()).unwrap();
        // Whoever writes for another user must let it read.
        std::fs::set_permissions(&targets, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let began = Instant::now();
        while self.scraped().await < 2.0 {
            assert!(began.elapsed() < Duration::from_secs(30), "Prometheus scrapes nothing");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::fs::remove_file(&targets).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    async fn scraped(&self) -> f64 {
        let found = self.text("FX_TEST_PROMETHEUS", "/api/v1/query?query=count_over_time(up%5B10m%5D)").await.unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        found["data"]["result"][0]["value"][1].as_str().map_or(0.0, |count| count.parse().unwrap())
    }
}
