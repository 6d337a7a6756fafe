-- The network's own database. Money facts are append-only: the triggers refuse to rewrite history.
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE tokens (
    token TEXT PRIMARY KEY,
    brand TEXT NOT NULL,
    last4 TEXT NOT NULL,
    exp_month INTEGER NOT NULL,
    exp_year INTEGER NOT NULL,
    behaviour TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE authorizations (
    id TEXT PRIMARY KEY,
    reference TEXT NOT NULL,
    token TEXT NOT NULL REFERENCES tokens (token),
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('authorized', 'declined', 'requires_action', 'captured', 'voided', 'expired')),
    decline_code TEXT,
    captured_minor INTEGER NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND amount_minor),
    refunded_minor INTEGER NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND captured_minor),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX authorizations_by_reference ON authorizations (reference);
CREATE INDEX authorizations_open ON authorizations (expires_at) WHERE status IN ('authorized', 'requires_action');

CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    code TEXT,
    authorization TEXT NOT NULL REFERENCES authorizations (id),
    reference TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    idempotency_key TEXT,
    at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_capture_per_authorization ON journal (authorization) WHERE kind = 'capture';
CREATE INDEX journal_by_authorization ON journal (authorization);
CREATE INDEX journal_by_reference ON journal (reference);
CREATE TRIGGER journal_is_never_rewritten BEFORE UPDATE ON journal
    BEGIN SELECT RAISE (ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_is_never_shortened BEFORE DELETE ON journal
    BEGIN SELECT RAISE (ABORT, 'the journal is append-only'); END;

CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    operation INTEGER NOT NULL REFERENCES journal (seq),
    account TEXT NOT NULL,
    debit_minor INTEGER NOT NULL CHECK (debit_minor >= 0),
    credit_minor INTEGER NOT NULL CHECK (credit_minor >= 0),
    currency TEXT NOT NULL,
    CHECK ((debit_minor = 0) <> (credit_minor = 0))
) STRICT;
CREATE TRIGGER entries_are_never_rewritten BEFORE UPDATE ON entries
    BEGIN SELECT RAISE (ABORT, 'the books are append-only'); END;
CREATE TRIGGER entries_are_never_shortened BEFORE DELETE ON entries
    BEGIN SELECT RAISE (ABORT, 'the books are append-only'); END;

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- One row per injected fault: the count survives a crash, and a key found here is never hit again.
CREATE TABLE injected (
    key TEXT NOT NULL,
    fault TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (key, fault)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (id TEXT PRIMARY KEY, type TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL REFERENCES events (id),
    authorization TEXT NOT NULL,
    -- waiting: behind an earlier event of its authorisation, and out of the index of what is due
    state TEXT NOT NULL CHECK (state IN ('waiting', 'pending', 'delivered', 'exhausted', 'dropped')),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    tries INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_at, seq) WHERE state = 'pending';
CREATE INDEX deliveries_by_authorization ON deliveries (authorization, state);
