//! A service's route table: one row a route, with its access; a changing row cannot be made without its idempotency.

use std::pin::Pin;
use std::sync::Arc;

use schemars::SchemaGenerator;

use super::answer::{Answer, Reply};
use super::refusal::Fail;
use super::request::{Args, Request};
use crate::manifest::{Access, OperationShape, Repeat, RouteDoc};
use crate::store::Tx;

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Fail>> + Send>>;

/// How a route's handler is run.
pub(crate) enum Run<S> {
    /// Outside of any unit of work.
    Plain(Arc<dyn Fn(Arc<S>, Arc<Request>) -> Answering + Send + Sync>),
    /// Inside the unit that also holds the idempotency key and the answer.
    Unit(Arc<dyn Fn(Tx, Arc<S>, Arc<Request>) -> Answering + Send + Sync>),
}

impl<S> Clone for Run<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(run) => Self::Plain(run.clone()),
            Self::Unit(run) => Self::Unit(run.clone()),
        }
    }
}

/// One row.
pub(crate) struct Route<S> {
    pub(crate) doc: RouteDoc,
    pub(crate) run: Run<S>,
}

/// A handler that only reads: `async fn(Arc<State>, arguments…) -> Result<impl Reply, Fail>`.
pub trait Reads<S, A>: Send + Sync + 'static {
    /// Its arguments.
    type Args: Args;
    /// Its answer.
    type Reply: Reply;
    /// Calls it.
    fn call(&self, state: Arc<S>, args: Self::Args) -> impl Future<Output = Result<Self::Reply, Fail>> + Send;
}

/// A handler that changes something: `async fn(Tx, Arc<State>, arguments…)`, run inside the unit of work.
pub trait Writes<S, A>: Send + Sync + 'static {
    /// Its arguments.
    type Args: Args;
    /// Its answer.
    type Reply: Reply;
    /// Calls it.
    fn call(&self, tx: Tx, state: Arc<S>, args: Self::Args) -> impl Future<Output = Result<Self::Reply, Fail>> + Send;
}

macro_rules! handlers {
    ($($arg:ident $name:ident),*) => {
        impl<S, F, Fut, R, $($arg),*> Reads<S, ($($arg,)*)> for F
        where
            S: Send + Sync + 'static,
            F: Fn(Arc<S>, $($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, Fail>> + Send,
            R: Reply,
            $($arg: super::request::Arg,)*
        {
            type Args = ($($arg,)*);
            type Reply = R;
            fn call(&self, state: Arc<S>, ($($name,)*): Self::Args) -> impl Future<Output = Result<R, Fail>> + Send {
                self(state, $($name),*)
            }
        }
        impl<S, F, Fut, R, $($arg),*> Writes<S, ($($arg,)*)> for F
        where
            S: Send + Sync + 'static,
            F: Fn(Tx, Arc<S>, $($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, Fail>> + Send,
            R: Reply,
            $($arg: super::request::Arg,)*
        {
            type Args = ($($arg,)*);
            type Reply = R;
            fn call(&self, tx: Tx, state: Arc<S>, ($($name,)*): Self::Args) -> impl Future<Output = Result<R, Fail>> + Send {
                self(tx, state, $($name),*)
            }
        }
    };
}
handlers!();
handlers!(A a);
handlers!(A a, B b);
handlers!(A a, B b, C c);
handlers!(A a, B b, C c, D d);

/// The route table of a service whose state is `S`.
pub struct Routes<S> {
    pub(crate) rows: Vec<Route<S>>,
}

impl<S: Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Send + Sync + 'static> Routes<S> {
    /// An empty table.
    pub fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// A route that reads.
    pub fn get<A, H: Reads<S, A> + Copy>(
        self,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        self.plain("GET", path, access, Repeat::Reads, summary, handler)
    }

    /// A route that creates or commands; keyed.
    pub fn post<A, H: Writes<S, A> + Copy>(
        self,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        self.keyed("POST", path, access, summary, handler)
    }

    /// A route that replaces; keyed.
    pub fn put<A, H: Writes<S, A> + Copy>(
        self,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        self.keyed("PUT", path, access, summary, handler)
    }

    /// A route that changes some fields; keyed.
    pub fn patch<A, H: Writes<S, A> + Copy>(
        self,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        self.keyed("PATCH", path, access, summary, handler)
    }

    /// A route that removes; keyed.
    pub fn delete<A, H: Writes<S, A> + Copy>(
        self,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        self.keyed("DELETE", path, access, summary, handler)
    }

    /// A POST of a foreign protocol, such as OAuth, whose own rule against repeats is stated in `rule`.
    pub fn protocol<A, H: Reads<S, A> + Copy>(
        self,
        path: &'static str,
        access: Access,
        rule: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        self.plain("POST", path, access, Repeat::Protocol(rule), summary, handler)
    }

    fn plain<A, H: Reads<S, A> + Copy>(
        mut self,
        method: &'static str,
        path: &'static str,
        access: Access,
        repeat: Repeat,
        summary: &'static str,
        handler: H,
    ) -> Self {
        let run = move |state: Arc<S>, request: Arc<Request>| -> Answering {
            Box::pin(async move {
                let args = H::Args::take(&request)?;
                handler.call(state, args).await.map(Reply::answer)
            })
        };
        let doc = RouteDoc {
            method,
            path,
            access,
            repeat,
            summary,
            operation: operation::<H>(),
            shape: shape::<H::Args, H::Reply>,
        };
        self.rows.push(Route { doc, run: Run::Plain(Arc::new(run)) });
        self
    }

    fn keyed<A, H: Writes<S, A> + Copy>(
        mut self,
        method: &'static str,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        let run = move |tx: Tx, state: Arc<S>, request: Arc<Request>| -> Answering {
            Box::pin(async move {
                let args = H::Args::take(&request)?;
                handler.call(tx, state, args).await.map(Reply::answer)
            })
        };
        let (repeat, shape) = (Repeat::Keyed, shape::<H::Args, H::Reply> as _);
        let doc = RouteDoc { method, path, access, repeat, summary, operation: operation::<H>(), shape };
        self.rows.push(Route { doc, run: Run::Unit(Arc::new(run)) });
        self
    }
}

fn shape<A: Args, R: Reply>(generator: &mut SchemaGenerator) -> OperationShape {
    let mut shape = OperationShape::default();
    A::describe(&mut shape, generator);
    R::describe(&mut shape, generator);
    shape
}

/// The handler function's own name.
fn operation<H>() -> String {
    std::any::type_name::<H>().rsplit("::").next().unwrap_or("operation").to_owned()
}
