"""The memory of a flat array as numbers of another type.

Numba can do it, too, but takes half a second to compile that for each pair of types.
"""

from typing import Any

from numba import types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.npydecl import parse_dtype

from .simd import vector_intrinsic


def _viewed(array: Any, dtype: Any) -> Any:
    return array.view(dtype)


@vector_intrinsic(_viewed)
def viewed(typingctx: Any, array: Any, dtype: Any) -> Any:
    """Return a view of a contiguous array (n,) as numbers of a dtype, none of them cut off."""
    element = parse_dtype(dtype)
    if array.layout != "C" or element is None:
        return None
    target = array.copy(dtype=element, readonly=not array.mutable)
    old, new = array.dtype.bitwidth // 8, target.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # Numba imports this, too, only when it compiles: 0.04 s that `import fastgmm` need not take
        from numba.np.arrayobj import populate_array

        def number(value: int) -> Any:
            return context.get_constant(types.intp, value)

        given = context.make_array(array)(context, builder, args[0])
        view = context.make_array(target)(context, builder)
        pointer = context.get_data_type(target.dtype).as_pointer()
        count = builder.udiv(builder.mul(given.nitems, number(old)), number(new))
        populate_array(
            view,
            data=builder.bitcast(given.data, pointer),
            shape=(count,),
            strides=(number(new),),
            itemsize=number(new),
            meminfo=given.meminfo,
            parent=given.parent,
        )
        return impl_ret_borrowed(context, builder, target, view._getvalue())

    return target(array, dtype), codegen
