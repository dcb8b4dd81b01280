"""LLVM instructions for SIMD registers: what the intrinsics of the kernels are written with."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils

DOUBLE, FLOAT = ir.DoubleType(), ir.FloatType()
INT32, INT64 = ir.IntType(32), ir.IntType(64)

# What LLVM may assume of the arithmetic: x*y+z may fuse.  Nothing about NaN or infinity.  Numba
# adds the flags of the function that is compiled.
FLAGS = ("contract",)


def _machine_lanes() -> int:
    """Return the float64 lanes of a register: 8 with AVX-512, else 4.

    Four is right below AVX-512 too: on a machine with two lanes (NEON, SSE2) LLVM splits each
    register in two, which gives the tiles just the number of accumulators such a machine needs.
    Numba's own overrides are followed, since they decide what may be emitted.
    """
    features = config.CPU_FEATURES
    if features is None:
        if config.CPU_NAME == "generic":
            return 4
        features = ""
        with suppress(RuntimeError):
            features = binding.get_host_cpu_features().flatten()
    return 8 if config.ENABLE_AVX and "+avx512f" in features.split(",") else 4


LANES = _machine_lanes()


class Emitter:
    """Append instructions to the function that is being compiled.

    Registers hold `LANES` float64 numbers, or as many bytes of float32 ones.  Indices are int64
    values that count elements from a pointer.  Loads and stores convert where the elements in
    memory are of the other type; no alignment is assumed beyond an element's own.
    """

    def __init__(
        self, context: Any, builder: Any, number: Any = types.float64, lanes: int | None = None
    ) -> None:
        self.context, self.builder = context, builder
        self.element = DOUBLE if number == types.float64 else FLOAT
        self.lanes = lanes or LANES * 64 // number.bitwidth
        self.vector = ir.VectorType(self.element, self.lanes)

    def widened(self) -> "Emitter":
        """Return an emitter for float64 registers with as many lanes as this one's."""
        return Emitter(self.context, self.builder, lanes=self.lanes)

    # --- values -------------------------------------------------------------------------------

    def index(self, value: int) -> Any:
        """Make a constant index."""
        return ir.Constant(INT64, value)

    def offset(self, index: Any, constant: int) -> Any:
        """Add a constant to an index."""
        return self.builder.add(index, self.index(constant)) if constant else index

    def constant(self, number: float) -> Any:
        """Make a register with every lane equal to a constant."""
        return ir.Constant(self.vector, [ir.Constant(self.element, float(number))] * self.lanes)

    def splat(self, number: Any) -> Any:
        """Make a register, of any element type, with every lane equal to a value."""
        undefined = ir.Constant(ir.VectorType(number.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(INT32, 0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    def shuffle(self, left: Any, right: Any, lanes: Iterable[int]) -> Any:
        """Pick lanes of two registers, numbered through."""
        chosen = list(lanes)
        mask = ir.Constant(ir.VectorType(INT32, len(chosen)), chosen)
        return self.builder.shuffle_vector(left, right, mask)

    def table(self, numbers: Sequence[float]) -> Any:
        """Return a pointer to registers full of constants that stay in memory.

        What LLVM knows to be a constant it broadcasts into a register each time, where a
        multiply-add could have read it from memory at no cost.  So it must not know.
        """
        values = [ir.Constant(self.element, float(x)) for x in numbers for _ in range(self.lanes)]
        whole = ir.Constant(ir.ArrayType(self.element, len(values)), values)
        place = cgutils.global_constant(self.builder.module, "table", whole)
        place.align = 64
        element = self.element.as_pointer()
        pointer = self.builder.bitcast(place, element)
        opaque = ir.FunctionType(element, [element])
        return self.builder.asm(opaque, "", "=r,0", [pointer], side_effect=False)

    # --- memory -------------------------------------------------------------------------------

    def array(self, array_type: Any, value: Any) -> Any:
        """Return the pointer to the first element of a contiguous array."""
        return self.context.make_array(array_type)(self.context, self.builder, value).data

    def load(self, pointer: Any, index: Any, registers: int = 1) -> Any:
        """Load consecutive elements, of several registers at once if wanted."""
        place, _, width = self._place(pointer, index, registers * self.lanes)
        return self.converted(self.builder.load(place, align=width))

    def load_masked(self, pointer: Any, index: Any, mask: Any) -> Any:
        """Load like `load`, but lanes outside the mask are 0 and their memory is not touched."""
        place, vector, width = self._place(pointer, index, self.lanes)
        bits = ir.VectorType(ir.IntType(1), self.lanes)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(vector, [place.type, INT32, bits, vector]),
            f"llvm.masked.load.{_suffix(vector)}.p0",
        )
        zeros = ir.Constant(vector, [ir.Constant(vector.element, 0.0)] * self.lanes)
        align = ir.Constant(INT32, width)
        return self.converted(self.builder.call(function, [place, align, mask, zeros]))

    def load_splat(self, pointer: Any, index: Any) -> Any:
        """Load one element into every lane."""
        return self.splat(self.builder.load(self._at(pointer, index)))

    def store(self, pointer: Any, index: Any, register: Any) -> None:
        """Store the lanes of a register one after the other."""
        place, vector, width = self._place(pointer, index, register.type.count)
        self.builder.store(self._as(vector.element, register), place, align=width)

    def prefetch(self, pointer: Any, index: Any) -> None:
        """Ask for the cache line of an element: nothing waits for it."""
        place = self.builder.bitcast(self._at(pointer, index), ir.IntType(8).as_pointer())
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), [place.type, INT32, INT32, INT32]),
            "llvm.prefetch.p0",
        )
        # to read, into the nearest cache, data
        self.builder.call(function, [place, *(ir.Constant(INT32, flag) for flag in (0, 3, 1))])

    def converted(self, register: Any) -> Any:
        """Convert a register to the type of this emitter's elements."""
        return self._as(self.element, register)

    def _at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [index], inbounds=False)

    def _place(self, pointer: Any, index: Any, lanes: int) -> tuple[Any, Any, int]:
        """Return a pointer to several elements, their type, and the bytes of one."""
        element = pointer.type.pointee
        vector = ir.VectorType(element, lanes)
        place = self.builder.bitcast(self._at(pointer, index), vector.as_pointer())
        return place, vector, 8 if element == DOUBLE else 4

    def _as(self, element: Any, register: Any) -> Any:
        if register.type.element == element:
            return register
        change = self.builder.fpext if element == DOUBLE else self.builder.fptrunc
        return change(register, ir.VectorType(element, register.type.count))

    # --- arithmetic ---------------------------------------------------------------------------

    def add(self, x: Any, y: Any) -> Any:
        """Add registers."""
        return self.builder.fadd(x, y, flags=FLAGS)

    def sub(self, x: Any, y: Any) -> Any:
        """Subtract registers."""
        return self.builder.fsub(x, y, flags=FLAGS)

    def mul(self, x: Any, y: Any) -> Any:
        """Multiply registers."""
        return self.builder.fmul(x, y, flags=FLAGS)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Compute ``x*y + z`` of registers, or of numbers."""
        # One instruction and one rounding where there is such an instruction.  LLVM's own `fma`
        # would insist on one rounding everywhere, by a slow call for each number if need be.
        return self.call("fmuladd", x, y, z)

    def folded(self, register: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Return what is left when a register's halves are combined until they have one lane."""
        width = register.type.count
        while width > 1:
            width //= 2
            low = self.shuffle(register, register, range(width))
            high = self.shuffle(register, register, range(width, 2 * width))
            register = combine(low, high)
        return self.builder.extract_element(register, ir.Constant(INT32, 0))

    def larger(self, x: Any, y: Any) -> Any:
        """Return the larger lanes of registers; of x where either is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, y), y, x)

    def call(self, name: str, *operands: Any) -> Any:
        """Call an LLVM intrinsic on registers, or on numbers, that returns another of them."""
        kind = operands[0].type
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind, [kind] * len(operands)),
            f"llvm.{name}.{_suffix(kind)}",
        )
        return self.builder.call(function, operands)

    # --- control ------------------------------------------------------------------------------

    def _not_unrolled(self) -> Any:
        module = self.builder.module
        rule = module.add_metadata(["llvm.loop.unroll.disable"])
        loop = module.add_metadata([rule, [f"loop {len(module.metadata)}"]])
        loop.operands = (loop, rule)  # the node of a loop begins with itself, so each has its own
        return loop

    def loop(
        self,
        stop: Any,
        carried: Sequence[Any],
        body: Callable[[Any, list[Any]], Sequence[Any]],
        step: int = 1,
        first: int = 0,
        *,
        unrolled: bool = True,
    ) -> list[Any]:
        """Emit ``for i in range(first, stop, step): carried = body(i, carried)``.

        The carried values stay in registers: what neither Numba nor LLVM would do with memory.
        What is not to be ``unrolled`` LLVM leaves as it is, where it would write it out many times.
        """
        builder, start = self.builder, self.index(first)
        before = builder.block
        inside = builder.append_basic_block("tile")
        after = builder.append_basic_block("tile.end")
        builder.cbranch(builder.icmp_signed("<", start, stop), inside, after)

        builder.position_at_end(inside)
        i = builder.phi(INT64)
        values = [builder.phi(value.type) for value in carried]
        new = body(i, list(values))
        following = builder.add(i, self.index(step))
        last = builder.block
        again = builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
        if not unrolled:
            again.set_metadata("llvm.loop", self._not_unrolled())
        for phi, earlier, later in zip(
            [i, *values], [start, *carried], [following, *new], strict=True
        ):
            phi.add_incoming(earlier, before)
            phi.add_incoming(later, last)

        builder.position_at_end(after)
        results = [builder.phi(value.type) for value in carried]
        for phi, earlier, later in zip(results, carried, new, strict=True):
            phi.add_incoming(earlier, before)
            phi.add_incoming(later, last)
        return results


def _suffix(kind: Any) -> str:
    """Return how LLVM writes a type at the end of an intrinsic's name."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return "f64" if kind == DOUBLE else "f32"
