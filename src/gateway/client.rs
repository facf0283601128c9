//! A lean client of the Milvus protocol, for tests and benches: a channel and typed calls.

use std::str::FromStr;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A window that a large reply passes without round trips for more.
const WINDOW_BYTES: u32 = 16 << 20;

/// A connection to a server. Clones share the connection; calls on them run at the same time.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use shoaldb::gateway::client::Client;
/// use shoaldb::proto::milvus::{GetVersionRequest, GetVersionResponse};
///
/// let mut client = Client::connect("127.0.0.1:19530").await?;
/// let reply: GetVersionResponse = client.call("GetVersion", &GetVersionRequest {}).await?;
/// println!("{}", reply.version);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    grpc: Grpc<Channel>,
    database: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Client {
    /// Connects to `host:port` or `unix:<path>`.
    ///
    /// # Errors
    /// When the address makes no sense or nobody listens there.
    pub async fn connect(address: &str) -> Result<Client, tonic::transport::Error> {
        let uri = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") };
        let channel = Endpoint::from_shared(uri)?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect()
            .await?;
        let grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        Ok(Client { grpc, database: None, timeout: None })
    }

    /// Names the database of every later call; an empty name takes it back.
    ///
    /// # Errors
    /// When the name cannot stand in a header.
    pub fn with_database(mut self, name: &str) -> Result<Client, Status> {
        self.database = match name {
            "" => None,
            _ => Some(MetadataValue::from_str(name).map_err(|error| Status::invalid_argument(error.to_string()))?),
        };
        Ok(self)
    }

    /// Sets the deadline of every later call.
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Client {
        self.timeout = timeout;
        self
    }

    /// Calls a method of the Milvus service.
    ///
    /// # Errors
    /// gRPC errors only; look at the reply's `status` for what the server says.
    pub async fn call<Req, Res>(&mut self, method: &str, request: &Req) -> Result<Res, Status>
    where
        Req: Message,
        Res: Message + Default + 'static,
    {
        let reply = self.call_bytes(method, request.encode_to_vec()).await?;
        Res::decode(reply.as_slice()).map_err(|error| Status::internal(format!("the reply cannot be read: {error}")))
    }

    /// Calls a method with an encoded message and returns the encoded reply.
    ///
    /// # Errors
    /// gRPC errors only.
    pub async fn call_bytes(&mut self, method: &str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
        let path = PathAndQuery::from_str(&format!("/milvus.proto.milvus.MilvusService/{method}"))
            .map_err(|error| Status::invalid_argument(format!("method {method}: {error}")))?;
        let mut request = Request::new(request);
        if let Some(database) = &self.database {
            request.metadata_mut().insert("dbname", database.clone());
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(self.grpc.unary(request, path, Passthrough).await?.into_inner())
    }
}

/// Messages as bytes.
#[derive(Debug, Default)]
struct Passthrough;

impl Codec for Passthrough {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Passthrough;
    type Decoder = Passthrough;

    fn encoder(&mut self) -> Passthrough {
        Passthrough
    }

    fn decoder(&mut self) -> Passthrough {
        Passthrough
    }
}

impl Encoder for Passthrough {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(target, &message);
        Ok(())
    }
}

impl Decoder for Passthrough {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; bytes::Buf::remaining(source)];
        bytes::Buf::copy_to_slice(source, &mut message);
        Ok(Some(message))
    }
}
