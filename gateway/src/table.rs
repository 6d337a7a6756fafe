//! The route table: templates as a tree of segments, fixed names before parameters.

use std::sync::Arc;

use http::{HeaderValue, Method};
use kernel::manifest::{Access, PublicRoute, Repeat};
use kernel::telemetry::{HttpMeasures, Name, RouteMeasures};

use crate::upstream::{Upstream, Upstreams};

/// One row.
pub(crate) struct Route {
    pub(crate) access: Access,
    pub(crate) repeat: Repeat,
    pub(crate) service: &'static str,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) measures: RouteMeasures,
    /// Method and template, as traces name it.
    pub(crate) name: Name,
}

/// All rows of one path.
#[derive(Default)]
pub(crate) struct Place {
    rows: Vec<(Method, Arc<Route>)>,
    allow: String,
}

impl Place {
    /// The row for a method; GET also answers HEAD.
    pub(crate) fn row(&self, method: &Method) -> Option<&Arc<Route>> {
        let find = |wanted: &Method| self.rows.iter().find(|(method, _)| method == wanted).map(|(_, route)| route);
        find(method).or_else(|| find(&Method::GET).filter(|_| method == Method::HEAD))
    }

    /// The methods of this path.
    pub(crate) fn allow(&self) -> HeaderValue {
        HeaderValue::from_str(&self.allow).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }

    fn add(&mut self, method: Method, route: Arc<Route>) {
        self.rows.push((method, route));
        let mut methods: Vec<&str> = self.rows.iter().map(|(method, _)| method.as_str()).collect();
        if methods.contains(&"GET") && !methods.contains(&"HEAD") {
            methods.push("HEAD");
        }
        if !methods.contains(&"OPTIONS") {
            methods.push("OPTIONS");
        }
        self.allow = methods.join(", ");
    }
}

#[derive(Default)]
struct Node {
    fixed: Vec<(Box<str>, Node)>,
    parameter: Option<Box<Node>>,
    rest: Place,
    here: Place,
}

/// All rows.
#[derive(Default)]
pub(crate) struct Table {
    root: Node,
}

impl Table {
    pub(crate) fn new(routes: &[PublicRoute], upstreams: &Upstreams, measures: &HttpMeasures) -> Self {
        let mut table = Self::default();
        for row in routes {
            // A service speaks of its own rows; what is for services only is never offered, whoever lists it.
            let Ok(method) = Method::from_bytes(row.method.as_bytes()) else { continue };
            if row.access == Access::Workload {
                continue;
            }
            let route = Route {
                access: row.access,
                repeat: row.repeat,
                service: row.service,
                upstream: upstreams.of(row.service),
                measures: measures.route(row.method, row.path),
                name: Name(row.method, row.path),
            };
            table.root.place(row.path).add(method, Arc::new(route));
        }
        table
    }

    /// The rows of a path.
    pub(crate) fn find(&self, path: &str) -> Option<&Place> {
        self.root.find(path.strip_prefix('/')?)
    }
}

impl Node {
    fn place(&mut self, template: &str) -> &mut Place {
        let mut node = self;
        let segments = template.trim_start_matches('/');
        if segments.is_empty() {
            return &mut node.here;
        }
        for segment in segments.split('/') {
            if segment.starts_with("{*") {
                return &mut node.rest;
            }
            node = if segment.starts_with('{') { node.parameter.get_or_insert_default() } else { node.child(segment) };
        }
        &mut node.here
    }

    fn child(&mut self, segment: &str) -> &mut Self {
        let at = self.fixed.iter().position(|(name, _)| &**name == segment).unwrap_or_else(|| {
            self.fixed.push((segment.into(), Self::default()));
            self.fixed.len() - 1
        });
        &mut self.fixed[at].1
    }

    fn find(&self, path: &str) -> Option<&Place> {
        if path.is_empty() {
            return self.here.offered();
        }
        let (segment, deeper) = match path.split_once('/') {
            // A slash at the end is another path, and nobody offers it.
            Some((_, "")) => return self.rest.offered(),
            Some((segment, deeper)) => (segment, deeper),
            None => (path, ""),
        };
        let fixed = self.fixed.iter().find(|(name, _)| &**name == segment).and_then(|(_, node)| node.find(deeper));
        fixed.or_else(|| self.parameter.as_ref()?.find(deeper)).or_else(|| self.rest.offered())
    }
}

impl Place {
    fn offered(&self) -> Option<&Self> {
        (!self.rows.is_empty()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use kernel::clock::Clock;
    use kernel::registry::Directory;
    use kernel::resilience::BreakerSettings;
    use kernel::telemetry::Metrics;

    use super::*;

    #[test]
    fn fixed_names_win_over_parameters_and_the_search_goes_back() {
        let upstreams = Arc::new(Upstreams::new(Directory::default(), BreakerSettings::default(), Clock::system()));
        let measures = HttpMeasures::new(&Metrics::new("gateway"));
        let row = |method, path, service| PublicRoute {
            method,
            path,
            service,
            access: Access::SignedIn,
            repeat: Repeat::Reads,
        };
        let rows = [
            row("GET", "/o/{id}", "one"),
            row("POST", "/o/{id}", "one"),
            row("GET", "/o/mine", "mine"),
            row("GET", "/o/{id}/items", "items"),
            row("GET", "/files/{*path}", "files"),
            PublicRoute { access: Access::Workload, ..row("GET", "/inner", "inner") },
        ];
        let table = Table::new(&rows, &upstreams, &measures);
        let service =
            |path: &str| table.find(path).map(|place| place.row(&Method::GET).unwrap().upstream.service.clone());
        assert_eq!(service("/o/7").as_deref(), Some("one"));
        assert_eq!(service("/o/mine").as_deref(), Some("mine"));
        assert_eq!(service("/o/mine/items").as_deref(), Some("items"));
        assert_eq!(service("/files/a/b").as_deref(), Some("files"));
        for nothing in ["/", "/o", "/o/", "/o/7/", "/o/7/other", "/inner"] {
            assert_eq!(service(nothing), None, "{nothing}");
        }
        assert_eq!(table.find("/o/7").unwrap().allow(), "GET, POST, HEAD, OPTIONS");
    }
}
