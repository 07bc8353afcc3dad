//! The machine service between the DCS controller and its adapter: protocol buffers and generated code.
