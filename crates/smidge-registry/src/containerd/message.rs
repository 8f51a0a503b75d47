//! The messages of containerd's API that are needed here, field numbers as in its `.proto` files
//! (`api/services/{content,images,leases}/v1`, `api/types/descriptor.proto`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

/// `google.protobuf.FieldMask`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    pub(super) paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ByDigest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) size: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Info>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Info>,
    #[prost(message, optional, tag = "2")]
    pub(super) update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) offset: i64,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadResponse {
    #[prost(int64, tag = "1")]
    pub(super) offset: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

/// `WriteAction`.
pub(super) const WRITE: i32 = 1;
pub(super) const COMMIT: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(int32, tag = "1")]
    pub(super) action: i32,
    #[prost(string, tag = "2")]
    pub(super) reference: String,
    #[prost(int64, tag = "3")]
    pub(super) total: i64,
    #[prost(string, tag = "4")]
    pub(super) expected: String,
    #[prost(int64, tag = "5")]
    pub(super) offset: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) data: Bytes,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteResponse {
    #[prost(int64, tag = "4")]
    pub(super) offset: i64,
}

/// `containerd.types.Descriptor`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Target {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Target>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ByName {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `GetImageResponse`, `CreateImageRequest`, `UpdateImageRequest`; only the last has a mask.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OneImage {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
    #[prost(message, optional, tag = "2")]
    pub(super) update_mask: Option<FieldMask>,
}

/// `leases.v1.CreateRequest` and `DeleteRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Lease {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) labels: BTreeMap<String, String>,
}
