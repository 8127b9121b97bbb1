;; Its `lifecycle.init` never ends.
(component
  (core module $code
    (memory (export "memory") 1)
    (func (export "init") (loop $again br $again))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16)
    (func (export "predict") (param i32 i32) (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $init (canon lift (core func $code "init")))
  (instance $lifecycle (export "init" (func $init)))
  (export "aegis:inference/lifecycle@0.1.0" (instance $lifecycle))
  (func $predict (param "request" string) (result string)
    (canon lift (core func $code "predict")
      (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (instance $exports (export "predict" (func $predict)))
  (export "aegis:inference/predict@0.1.0" (instance $exports)))
