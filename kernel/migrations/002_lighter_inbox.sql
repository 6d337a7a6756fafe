-- Receipts are written with every event and looked up by identity. What these two served is done once an hour or by
-- hand, over rows that lie in the order of time anyway; every event paid for keeping them sorted.
DROP INDEX inbox_received;
DROP INDEX inbox_position;
