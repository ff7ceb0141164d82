/** The arithmetic of `mobilesam/core`, in the browser; `tests/page/test_arithmetic.py` holds it to Python's. */

export * from "./alpha";
export * from "./boxes";
export * from "./everything";
export * from "./frame";
export * from "./mask";
export * from "./outlines";
export * from "./postprocess";
export * from "./preprocess";
export * from "./prompts";
export * from "./regions";
export * from "./resize";
export * from "./views";
