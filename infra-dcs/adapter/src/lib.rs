//! gRPC machine service over the VRM REST API of Huawei DCS.
