"""Numbers that the paper and the model cards publish, for comparison with measured ones.

Zheng et al., "Bilateral Reference for High-Resolution Dichotomous Image Segmentation", CAAI
Artificial Intelligence Research 3 (2024): Tables 1 to 6; only rows that can be read with
certainty. The column orders are those of the tables.
"""

from __future__ import annotations

from birefnet.evaluation.columns import GROUPS
from birefnet.evaluation.tables import Row

# Tables 1 to 3: max F, weighted F, MAE, S, mean E, HCE on DIS-VD.
_TABLES_1_TO_3 = """
Table 1 | 200 epochs                          | .875 .848 .041 .886 .914 1207
Table 1 | 400 epochs                          | .897 .863 .036 .905 .937 1039
Table 1 | 200 epochs, multi-stage supervision | .892 .858 .037 .901 .932 1043
Table 2 | baseline            | .837 .785 .056 .845 .887 1204
Table 2 | RM                  | .855 .831 .048 .865 .895 1167
Table 2 | InRef               | .848 .825 .050 .857 .903 1152
Table 2 | RM + InRef          | .869 .834 .041 .886 .912 1093
Table 2 | RM + OutRef         | .863 .831 .042 .891 .918 1106
Table 2 | InRef + OutRef      | .861 .839 .044 .881 .911 1114
Table 2 | RM + InRef + OutRef | .889 .851 .038 .900 .924 1065
Table 3 | none             | .889 .851 .038 .900 .924 1065
Table 3 | CFF              | .893 .856 .038 .904 .928 1054
Table 3 | IPT              | .895 .857 .037 .904 .927 1051
Table 3 | RLFT             | .890 .861 .036 .899 .932 1043
Table 3 | CFF + IPT + RLFT | .897 .863 .036 .905 .937 1039
"""

# Table 4: max F, weighted F, MAE, S, mean E, HCE. All methods take 1024 x 1024 input.
_TABLE_4 = """
DIS-TE1 | IS-Net                   | .740 .662 .074 .787 .820 149
DIS-TE1 | UDUN                     | .784 .720 .059 .817 .864 140
DIS-TE1 | BiRefNet (paper)         | .860 .819 .037 .885 .911 106
DIS-TE1 | BiRefNet-SwinB (paper)   | .857 .819 .038 .884 .912 110
DIS-TE1 | BiRefNet-SwinT (paper)   | .823 .774 .048 .855 .887 117
DIS-TE1 | BiRefNet-PVTv2b2 (paper) | .839 .796 .042 .870 .903 111
DIS-TE2 | IS-Net                   | .799 .728 .070 .823 .858 340
DIS-TE2 | UDUN                     | .829 .768 .058 .843 .886 325
DIS-TE2 | BiRefNet (paper)         | .894 .857 .036 .900 .930 266
DIS-TE2 | BiRefNet-SwinB (paper)   | .890 .854 .037 .898 .930 275
DIS-TE2 | BiRefNet-SwinT (paper)   | .862 .821 .046 .877 .912 290
DIS-TE2 | BiRefNet-PVTv2b2 (paper) | .881 .842 .040 .888 .925 280
DIS-TE3 | IS-Net                   | .830 .758 .064 .836 .883 687
DIS-TE3 | UDUN                     | .865 .809 .050 .865 .917 658
DIS-TE3 | BiRefNet (paper)         | .925 .893 .028 .919 .955 569
DIS-TE3 | BiRefNet-SwinB (paper)   | .919 .886 .030 .915 .953 597
DIS-TE3 | BiRefNet-SwinT (paper)   | .899 .860 .036 .897 .942 627
DIS-TE3 | BiRefNet-PVTv2b2 (paper) | .903 .866 .036 .901 .941 614
DIS-TE4 | IS-Net                   | .827 .753 .072 .830 .870 2888
DIS-TE4 | UDUN                     | .846 .792 .059 .849 .901 2785
DIS-TE4 | BiRefNet (paper)         | .904 .864 .039 .900 .939 2723
DIS-TE4 | BiRefNet-SwinB (paper)   | .899 .860 .040 .895 .938 2836
DIS-TE4 | BiRefNet-SwinT (paper)   | .880 .834 .049 .878 .925 2888
DIS-TE4 | BiRefNet-PVTv2b2 (paper) | .890 .846 .045 .886 .929 2871
DIS-TE (1-4) | IS-Net                   | .799 .726 .070 .819 .858 1016
DIS-TE (1-4) | UDUN                     | .831 .772 .057 .844 .892 977
DIS-TE (1-4) | BiRefNet (paper)         | .896 .858 .035 .901 .934 916
DIS-TE (1-4) | BiRefNet-SwinB (paper)   | .891 .855 .036 .898 .933 954
DIS-TE (1-4) | BiRefNet-SwinT (paper)   | .866 .822 .045 .877 .916 980
DIS-TE (1-4) | BiRefNet-PVTv2b2 (paper) | .878 .838 .041 .886 .925 969
DIS-VD | IS-Net                   | .791 .717 .074 .813 .856 1116
DIS-VD | UDUN                     | .823 .763 .059 .838 .892 1097
DIS-VD | BiRefNet (paper)         | .891 .854 .038 .898 .931 989
DIS-VD | BiRefNet-SwinB (paper)   | .881 .844 .039 .890 .925 1029
DIS-VD | BiRefNet-SwinT (paper)   | .862 .819 .045 .874 .917 1070
DIS-VD | BiRefNet-PVTv2b2 (paper) | .868 .827 .044 .880 .919 1073
"""

# Table 5: S, max F, mean E, MAE. D, H and U: trained on DUTS, HRSOD and UHRSD.
_TABLE_5 = """
DAVIS-S      | PGNet (D+H)               | .948 .950 .975 .012
DAVIS-S      | BiRefNet (D, paper)       | .967 .966 .984 .008
DAVIS-S      | BiRefNet (D+H, paper)     | .973 .976 .990 .006
DAVIS-S      | BiRefNet (D+H+U, paper)   | .975 .979 .989 .006
TE-HRSOD     | PGNet (D+H)               | .935 .937 .946 .020
TE-HRSOD     | BiRefNet (D, paper)       | .957 .958 .972 .014
TE-HRSOD     | BiRefNet (D+H, paper)     | .962 .963 .976 .011
TE-HRSOD     | BiRefNet (D+H+U, paper)   | .962 .961 .973 .013
TE-UHRSD     | PGNet (D+H)               | .912 .935 .905 .036
TE-UHRSD     | BiRefNet (D, paper)       | .931 .933 .943 .030
TE-UHRSD     | BiRefNet (D+H, paper)     | .937 .942 .951 .024
TE-UHRSD     | BiRefNet (D+H+U, paper)   | .957 .963 .969 .016
TE-DUTS      | PGNet (D+H)               | .912 .919 .925 .028
TE-DUTS      | BiRefNet (D, paper)       | .939 .937 .958 .019
TE-DUTS      | BiRefNet (D+H, paper)     | .938 .935 .960 .018
TE-DUTS      | BiRefNet (D+H+U, paper)   | .944 .943 .962 .018
DUT-OMRON    | PGNet (D+H)               | .858 .835 .887 .046
DUT-OMRON    | BiRefNet (D, paper)       | .868 .813 .878 .040
DUT-OMRON    | BiRefNet (D+H, paper)     | .868 .818 .882 .040
DUT-OMRON    | BiRefNet (D+H+U, paper)   | .882 .839 .896 .038
"""

# Table 6: S, weighted F, mean F, mean E, max E, MAE.
_TABLE_6 = """
TE-CAMO      | HitNet           | .849 .809 .831 .906 .910 .055
TE-CAMO      | FSPNet           | .856 .799 .830 .899 .928 .050
TE-CAMO      | BiRefNet (paper) | .904 .890 .904 .954 .959 .030
TE-COD10K    | HitNet           | .871 .806 .823 .935 .938 .023
TE-COD10K    | FSPNet           | .851 .735 .769 .895 .930 .026
TE-COD10K    | BiRefNet (paper) | .913 .874 .888 .960 .967 .014
NC4K         | HitNet           | .875 .834 .853 .926 .929 .037
NC4K         | FSPNet           | .879 .816 .843 .915 .937 .035
NC4K         | BiRefNet (paper) | .914 .894 .909 .953 .960 .023
"""

# Model card of ZhengPeng7/BiRefNet-portrait: S, max F, mean E, MAE, max E, mean F, weighted F.
_PORTRAIT_CARD = """
TE-P3M-500-P | BiRefNet-portrait (card) | .983 .996 .991 .006 .997 .988 .990
"""


def published_rows(dataset: str) -> list[Row]:
    """The published rows for a data set, in the order of their tables; "Table 1" to "Table 3" too.

    Those are the ablations on DIS-VD, with the variant as the method.
    """
    return [row for row in _ROWS if row.dataset == dataset]


def _read(text: str, columns: tuple[str, ...]) -> list[Row]:
    rows = []
    for line in text.strip().splitlines():
        dataset, method, numbers = (part.strip() for part in line.split("|"))
        values = dict(zip(columns, map(float, numbers.split()), strict=True))
        rows.append(Row(dataset, method, values, is_published=True))
    return rows


_ROWS = [
    *_read(_TABLES_1_TO_3, GROUPS["dis"]),
    *_read(_TABLE_4, GROUPS["dis"]),
    *_read(_TABLE_5, GROUPS["hrsod"]),
    *_read(_TABLE_6, GROUPS["cod"]),
    *_read(_PORTRAIT_CARD, GROUPS["portrait"][:7]),
]
