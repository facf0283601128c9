//! Every limit in one place, with the relations between them checked at compile time.

/// Most hits of one query, and the largest `offset + limit` (Milvus).
pub const TOP_K_MAX: usize = 16_384;

/// Rows that are exactly as far from the query as the last one of an iterator's page and come with it.
pub const TIED_ROWS_MAX: usize = 8 * TOP_K_MAX;

/// Search iterators of which a searcher keeps the hits that come next, those used last: 200 KB each.
pub const ITERATORS_KEPT_MAX: usize = 16;

/// Most query vectors of one search (Milvus).
pub const QUERY_COUNT_MAX: usize = 16_384;
/// Most hits of one group of a grouped search (Milvus).
pub const GROUP_SIZE_MAX: usize = 10;
/// Longest wait for a guarantee timestamp that lies ahead of this machine's clock.
pub const GUARANTEE_WAIT_MS_MAX: u64 = 1_000;
/// Most requests that wait so at once, over all searchers: half of the slots stay for others.
pub const POSTPONED_MAX: usize = 64;
/// Largest dimension of a dense float vector (Milvus).
pub const DIM_MAX: usize = 32_768;
/// Smallest dimension of a dense float vector (Milvus).
pub const DIM_MIN: usize = 2;
/// Longest collection, field, alias, partition, database name in bytes (Milvus).
pub const NAME_BYTES_MAX: usize = 255;
/// Most fields of a collection, `$meta` not counted (Milvus).
pub const FIELDS_MAX: usize = 64;
/// Most vector fields of a collection (Milvus).
pub const VECTOR_FIELDS_MAX: usize = 10;
/// Longest `VarChar` in bytes (Milvus).
pub const VARCHAR_BYTES_MAX: usize = 65_535;
/// Most elements of an array (Milvus).
pub const ARRAY_CAPACITY_MAX: usize = 4_096;
/// Longest JSON document or dynamic row in bytes (Milvus).
pub const JSON_BYTES_MAX: usize = 65_536;
/// Deepest nesting of a JSON document: parsers that recurse stop at 128.
pub const JSON_DEPTH_MAX: usize = 100;
/// Most bytes that the rows of one request take in memory, once defaults and nulls are filled in.
pub const BATCH_BYTES_MAX: usize = 1 << 30;
/// Most shards a client may ask for; accepted and echoed, one machine has one (Milvus).
pub const SHARDS_MAX: i32 = 16;
/// Most partitions of a collection (Milvus).
pub const PARTITIONS_MAX: usize = 1_024;
/// Partitions of a collection with a partition key whose request names no number (Milvus).
pub const PARTITION_KEY_PARTITIONS: usize = 16;
/// Longest time to live of rows in seconds: 100 years (Milvus).
pub const TTL_SECONDS_MAX: i64 = 3_155_760_000;
/// Most collections: each has a cell in the control file.
pub const COLLECTIONS_MAX: usize = 65_536;
/// Fewest rows of a table file that gets an index: fewer are scanned as fast.
pub const INDEXED_ROWS_MIN: u64 = 4_096;
/// How often an index over one table file is tried before the file stays without.
pub const BUILD_ATTEMPTS_MAX: u32 = 3;
/// Most threads of the builder.
pub const BUILDER_THREADS_MAX: usize = 1_024;
/// Longest filter text in bytes.
pub const FILTER_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting of a filter.
pub const FILTER_DEPTH_MAX: usize = 64;
/// Most operands and operators of a filter, elements of lists not counted: a plan takes about 100 bytes for each.
pub const FILTER_NODES_MAX: usize = 4 << 20;
/// Largest compiled regular expression (or `like` pattern) of a filter in bytes.
pub const REGEX_BYTES_MAX: usize = 10 << 20;
/// Most bytes of bitmaps of filters that a process keeps.
pub const KEPT_FILTER_BYTES_MAX: usize = 32 << 20;
/// Most filters whose bitmaps a process keeps, counted once per table file.
pub const KEPT_FILTERS_MAX: usize = 256;
/// Longest filter that is kept so, templates included, in bytes.
pub const KEPT_TEXT_BYTES_MAX: usize = 2_048;
/// Largest compiled regular expressions of one filter together, about.
pub const FILTER_REGEX_BYTES_MAX: usize = 64 << 20;
/// Most lists among the constants of one `in` or `json_contains`: each is held against every row.
pub const FILTER_LISTS_MAX: usize = 1_024;
/// Most output fields of one request.
pub const OUTPUT_FIELDS_MAX: usize = 1_024;
/// Largest request body in bytes; also the gRPC decode limit.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Largest reply body in bytes (Milvus stops at 100 MB).
pub const REPLY_BYTES_MAX: usize = 128 << 20;
/// Largest catalog or manifest in bytes: 65,536 collections or 500,000 files fit.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// Most client connections at once; more wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Most calls under way on one connection; its client holds back more.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// Largest header block of a call in bytes.
pub const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Most calls that wait for a free slot of one pool; more are told to come back later.
pub const QUEUED_CALLS_MAX: usize = 4_096;
/// Most bytes of request bodies that the gateway holds at once.
pub const BODIES_BYTES_MAX: usize = 1 << 30;
/// Most reader processes attached to one database at once, searchers included.
pub const READERS_MAX: usize = 1_024;
/// Most searcher processes.
pub const SEARCHERS_MAX: usize = 256;

const _: () = assert!(BODIES_BYTES_MAX >= REQUEST_BYTES_MAX);
const _: () = assert!(FILTER_REGEX_BYTES_MAX >= REGEX_BYTES_MAX);
const _: () = assert!(READERS_MAX > SEARCHERS_MAX);
// A text column counts its bytes in an i32: the request's own bytes and what defaults add.
const _: () = assert!(BATCH_BYTES_MAX + REQUEST_BYTES_MAX < i32::MAX as usize);
const _: () = assert!(JSON_BYTES_MAX <= REQUEST_BYTES_MAX && VARCHAR_BYTES_MAX <= REQUEST_BYTES_MAX);
