;; What no compiler would let out. `predict` does what the first letter of the first query
;; parameter says:
;;
;;   a unreachable            b division by zero         c integer overflow
;;   d bad conversion         e load out of bounds       f table out of bounds
;;   g null indirect call     h bad signature            i recursion, mutual
;;   j recursion, indirect    k table.grow to the end    l memory.grow to the end
;;   m memory.grow for ever   n fills memory for ever    o a body outside memory
;;   p a body of 4 GiB        q 65,536 headers that are all the same 1 MiB
;;   r an unknown result      s a destructor that loops  t a post-return that loops
;;   u a post-return that traps                          v an answer at an odd address
;;
;; and answers 200 without one. The tests change what realloc and start do: 1 loop, 2 trap,
;; 3 (realloc) a pointer outside memory, 3 (start) take memory until there is none.
(component
  (type $problem' (record (field "message" string) (field "field" (option string))))
  (export $problem "problem" (type $problem'))
  (type $request' (record
    (field "id" string)
    (field "content-type" (option string))
    (field "headers" (list (tuple string string)))
    (field "query" (list (tuple string string)))
    (field "body" (list u8))))
  (export $request "request" (type $request'))
  (type $response' (record
    (field "content-type" string)
    (field "headers" (list (tuple string string)))
    (field "body" (list u8))))
  (export $response "response" (type $response'))
  (type $failure' (variant
    (case "invalid-input" $problem)
    (case "unsupported-media-type" string)
    (case "too-large" string)
    (case "overloaded" string)
    (case "not-ready" string)
    (case "timeout" string)
    (case "internal" string)))
  (export $failure "failure" (type $failure'))

  (core module $destroy
    (func (export "destroy") (param i32)
      (loop $for_ever (br $for_ever))))
  (core instance $destroy (instantiate $destroy))
  (type $thing (resource (rep i32) (dtor (core func $destroy "destroy"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))

  (core module $code
    (import "thing" "new" (func $new (param i32) (result i32)))
    (import "thing" "drop" (func $drop (param i32)))
    (global $realloc_does i32 (i32.const 0))
    (global $start_does i32 (i32.const 0))
    (global $after (mut i32) (i32.const 0))
    (global $next (mut i32) (i32.const 4096))
    (type $i (func (result i32)))
    (type $v (func))
    (memory (export "memory") 1)
    (table $table 4 100000 funcref)
    (elem (i32.const 1) $nothing $again)
    ;; A result: ok, a content type, no headers, a body.
    (data (i32.const 1024)
      "\00\00\00\00" "\40\04\00\00" "\0a\00\00\00" "\00\00\00\00" "\00\00\00\00"
      "\50\04\00\00" "\08\00\00\00")
    (data (i32.const 1088) "text/plain")
    (data (i32.const 1104) "answered")

    (func $nothing)
    (func $again (call_indirect (type $v) (i32.const 2)) (call $nothing))
    (func $one (call $other) (call $nothing))
    (func $other (call $one) (call $nothing))
    (func $for_ever (loop $for_ever (br $for_ever)))
    (func $all_memory
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      unreachable)

    (func $start
      (if (i32.eq (global.get $start_does) (i32.const 1)) (then (call $for_ever)))
      (if (i32.eq (global.get $start_does) (i32.const 2)) (then unreachable))
      (if (i32.eq (global.get $start_does) (i32.const 3)) (then (call $all_memory))))
    (start $start)

    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (if (i32.eq (global.get $realloc_does) (i32.const 1)) (then (call $for_ever)))
      (if (i32.eq (global.get $realloc_does) (i32.const 2)) (then unreachable))
      (if (i32.eq (global.get $realloc_does) (i32.const 3)) (then (return (i32.const -16))))
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (loop $more
        (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
          (then
            (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
            (br $more))))
      (local.get $at))

    (func (export "after") (param i32)
      (if (i32.eq (global.get $after) (i32.const 1)) (then (call $for_ever)))
      (if (i32.eq (global.get $after) (i32.const 2)) (then unreachable)))

    ;; One header of 1 MiB at 1 MiB, and 65,536 times its place behind it.
    (func $same_headers
      (local $at i32)
      (drop (memory.grow (i32.const 64)))
      (memory.fill (i32.const 0x100000) (i32.const 0x61) (i32.const 0x100000))
      (local.set $at (i32.const 0x200000))
      (loop $more
        (i32.store (local.get $at) (i32.const 0x100000))
        (i32.store offset=4 (local.get $at) (i32.const 0x100000))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $more (i32.lt_u (local.get $at) (i32.const 0x300000))))
      (i32.store (i32.const 1036) (i32.const 0x200000))
      (i32.store (i32.const 1040) (i32.const 65536)))

    (func $act (param $letter i32)
      (block $v (block $u (block $t (block $s (block $r (block $q (block $p (block $o
      (block $n (block $m (block $l (block $k (block $j (block $i (block $h (block $g
      (block $f (block $e (block $d (block $c (block $b (block $a (block $none
        (br_table $a $b $c $d $e $f $g $h $i $j $k $l $m $n $o $p $q $r $s $t $u $v $none
          (i32.sub (local.get $letter) (i32.const 0x61))))
        (return))
        unreachable)
        (drop (i32.div_u (i32.const 1) (local.tee $letter (i32.const 0)))) (return))
        (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))) (return))
        (drop (i32.trunc_f32_s (f32.const nan))) (return))
        (drop (i32.load (i32.const -4))) (return))
        (call_indirect (type $v) (i32.const 1000)) (return))
        (call_indirect (type $v) (i32.const 0)) (return))
        (drop (call_indirect (type $i) (i32.const 1))) (return))
        (call $one) (return))
        (call $again) (return))
        (loop $more
          (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1))))
        unreachable)
        (call $all_memory) (return))
        (loop $more (drop (memory.grow (i32.const 65536))) (br $more)))
        (drop (memory.grow (i32.const 1000)))
        (loop $more
          (memory.fill (i32.const 65536) (i32.const 0xff) (i32.const 65536000)) (br $more)))
        (i32.store (i32.const 1044) (i32.const 0x7fffffff)) (return))
        (i32.store (i32.const 1048) (i32.const -1)) (return))
        (call $same_headers) (return))
        (i32.store (i32.const 1024) (i32.const 7)) (return))
        (call $drop (call $new (i32.const 1))) (return))
        (global.set $after (i32.const 1)) (return))
        (global.set $after (i32.const 2)) (return))
      (global.set $after (i32.const 3)))

    (func (export "predict")
      (param $id i32) (param $id_len i32)
      (param $ct i32) (param $ct_at i32) (param $ct_len i32)
      (param $headers i32) (param $headers_len i32)
      (param $query i32) (param $query_len i32)
      (param $body i32) (param $body_len i32) (result i32)
      (if (local.get $query_len)
        (then (call $act (i32.load8_u (i32.load offset=8 (local.get $query))))))
      ;; A result wants an address that four divides.
      (i32.add (i32.const 1024) (i32.eq (global.get $after) (i32.const 3)))))

  (core instance $code (instantiate $code
    (with "thing" (instance
      (export "new" (func $new))
      (export "drop" (func $drop))))))
  (func $predict (param "request" $request) (result (result $response (error $failure)))
    (canon lift (core func $code "predict")
      (memory (core memory $code "memory")) (realloc (core func $code "realloc"))
      (post-return (core func $code "after"))))
  (instance $exports (export "predict" (func $predict)))
  (export "aegis:inference/predict@0.1.0" (instance $exports)))
