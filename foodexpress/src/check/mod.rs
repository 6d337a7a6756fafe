//! The rules of this repository, each a pure function over its files, manifests and crate graph, with a violation to prove it by.

mod exceptions;
mod inputs;
mod rules;
mod schema;
mod source;
mod sql;
mod tables;

pub(crate) use inputs::Inputs;
pub(crate) use schema::bless;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Path below the root.
    pub(crate) file: String,
    /// Line, from 1.
    pub(crate) line: usize,
}

/// One violation.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Where.
    pub(crate) place: Place,
    /// What is wrong there.
    pub(crate) what: String,
    /// What an exception would have to name.
    pub(crate) subject: String,
    /// How large it is, for rules about size.
    size: Option<usize>,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        let file = file.into();
        Self { subject: file.clone(), place: Place { file, line }, what: what.into(), size: None }
    }

    fn at(place: Place, what: impl Into<String>) -> Self {
        Self::new(place.file, place.line, what)
    }

    /// Something finer than the whole file, for exceptions to name.
    fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    fn sized(mut self, size: usize) -> Self {
        self.size = Some(size);
        self
    }
}

/// One rule.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// By which it is called, such as `F4`.
    pub(crate) name: &'static str,
    /// What it demands.
    pub(crate) says: &'static str,
    check: fn(&Inputs) -> Vec<Finding>,
    plant: fn(&mut Inputs) -> Place,
}

/// What a rule found.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The rule.
    pub(crate) rule: &'static str,
    /// Everything that no exception covers.
    pub(crate) findings: Vec<Finding>,
}

/// Every rule, in the order in which they are told.
pub(crate) fn all() -> Vec<Rule> {
    let mut all = rules::all();
    let says = "every exception has a reason and is still needed";
    all.push(Rule { name: "lists", says, check: exceptions::unneeded, plant: exceptions::plant });
    all
}

impl Rule {
    /// What it finds that is not on the list of exceptions.
    pub(crate) fn run(&self, inputs: &Inputs) -> Outcome {
        let excused = |found: &Finding| inputs.exceptions.iter().any(|e| e.covers(self.name, found));
        let mut findings: Vec<Finding> = (self.check)(inputs).into_iter().filter(|found| !excused(found)).collect();
        findings.sort_by(|a, b| a.place.cmp(&b.place));
        Outcome { rule: self.name, findings }
    }

    /// Adds one violation to the inputs, and says where the rule must find it.
    pub(crate) fn plant(&self, inputs: &mut Inputs) -> Place {
        (self.plant)(inputs)
    }
}
